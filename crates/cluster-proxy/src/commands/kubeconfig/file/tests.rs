use std::os::unix::fs::{PermissionsExt as _, symlink};

use serde_json::json;
use tempfile::TempDir;

use super::*;

fn folder() -> TempDir {
    TempDir::new().expect("a folder")
}

fn mode(path: &Path) -> u32 {
    let metadata = fs::metadata(path).expect("it is there");
    metadata.permissions().mode() & 0o777
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort();
    names
}

fn set_current(document: &mut Value) -> Result<(), String> {
    *document = json!({"kind": "Config", "current-context": "x"});
    Ok(())
}

#[test]
fn a_new_file_and_its_folder_are_for_their_owner_alone() {
    let folder = folder();
    let path = folder.path().join("new/config");
    update(&path, set_current).expect("written");
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().expect("a folder")), 0o700);
    assert_eq!(names(path.parent().expect("a folder")), ["config"]);
}

#[test]
fn a_file_that_others_could_read_is_closed_and_one_without_change_is_left() {
    let folder = folder();
    let path = folder.path().join("config");
    let text = "# a comment\nkind: Config\n";
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set");
    update(&path, |_| Ok(())).expect("nothing to do");
    assert_eq!(fs::read_to_string(&path).expect("there"), text);
    assert_eq!(mode(&path), 0o644);
    update(&path, set_current).expect("written");
    assert_eq!(mode(&path), 0o600);
    let written = fs::read_to_string(&path).expect("there");
    assert_eq!(written, "current-context: x\nkind: Config\n");
}

#[test]
fn what_cannot_be_read_or_changed_is_untouched() {
    let folder = folder();
    let path = folder.path().join("config");
    for (text, cause) in [
        ("users: [s3cret", "not a kubeconfig"),
        ("kind: Config", "no change for you"),
    ] {
        fs::write(&path, text).expect("written");
        let refuse = |_: &mut Value| Err::<(), _>("no change for you".to_owned());
        let refused = update(&path, refuse).expect_err(text).to_string();
        assert!(
            refused.contains(cause) && refused.ends_with("nothing is changed"),
            "{refused}"
        );
        assert!(!refused.contains("s3cret"), "{refused}");
        assert_eq!(fs::read_to_string(&path).expect("there"), text);
        assert_eq!(names(folder.path()), ["config"]);
    }
}

#[test]
fn a_link_stays_a_link_and_one_to_nowhere_is_refused() {
    let folder = folder();
    let (real, link) = (folder.path().join("real"), folder.path().join("link"));
    symlink(&real, &link).expect("a link");
    let refused = Target::find(Some(link.clone()), None);
    let refused = refused.err().expect("nowhere").to_string();
    assert!(refused.contains("leads nowhere"), "{refused}");
    fs::write(&real, "kind: Config\n").expect("written");
    let path = Target::find(Some(link.clone()), None).expect("there").path;
    update(&path, set_current).expect("written");
    assert!(link.symlink_metadata().expect("there").is_symlink());
    assert!(
        fs::read_to_string(&real)
            .expect("there")
            .contains("current-context: x")
    );
}

#[test]
fn a_lock_is_waited_for_and_named_if_it_stays() {
    let folder = folder();
    let path = folder.path().join("config");
    let held = Lock::take(&path, Duration::ZERO).expect("free");
    let refused = Lock::take(&path, Duration::from_millis(50))
        .err()
        .expect("held");
    assert!(refused.contains("config.lock"), "{refused}");
    let waiting = std::thread::spawn(move || Lock::take(&path, LOCK_LIMIT).map(drop));
    drop(held);
    assert_eq!(waiting.join().expect("no panic"), Ok(()));
    assert!(names(folder.path()).is_empty());
}

#[test]
fn of_several_the_first_that_is_there_is_taken_and_no_other_is_hidden() {
    let folder = folder();
    let folder = folder.path().canonicalize().expect("there");
    let [missing, first, second] = ["missing", "first", "second"].map(|name| folder.join(name));
    fs::write(&first, "kind: Config\n").expect("written");
    fs::write(
        &second,
        "contexts: [{name: a, context: {cluster: a, user: a}}]\n",
    )
    .expect("written");
    let find = |paths: &[&PathBuf]| {
        let variable = std::env::join_paths(paths).expect("a list");
        Target::find(None, Some(variable)).expect("a target")
    };
    let target = find(&[&missing, &first, &second]);
    assert_eq!(target.path, first);
    target.hides_nothing(&["b".to_owned()]).expect("free");
    let refused = target.hides_nothing(&["b".to_owned(), "a".to_owned()]);
    let refused = refused.expect_err("taken").to_string();
    assert!(
        refused.contains("\"a\" among its contexts") && refused.contains("--prefix"),
        "{refused}"
    );
    let own = find(&[&second, &first]);
    own.hides_nothing(&["a".to_owned()])
        .expect("it is in the file itself");
    assert_eq!(find(&[&missing]).path, missing);
}
