//! Where the bearer token of a connection comes from.

use std::fmt;
use std::sync::Arc;

use cluster_proxy_identity::Token;
use cluster_proxy_identity::tls::FlagFile;

use crate::error::ConnectionError;
use crate::refreshed::Refreshed;

/// The token that a connection presents, if any. Clones are the same source.
#[derive(Clone, Default)]
pub struct TokenSource(Source);

#[derive(Clone, Default)]
enum Source {
    #[default]
    None,
    Fixed(Token),
    File(Arc<TokenFile>),
}

struct TokenFile {
    file: FlagFile,
    token: Refreshed<Token>,
}

impl TokenSource {
    /// No token: the connection has a client certificate, or is anonymous.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// A token that stays.
    #[must_use]
    pub fn fixed(token: Token) -> Self {
        Self(Source::Fixed(token))
    }

    /// A file that is read again as the token ages, at most ten seconds late. The flag names who
    /// asked for the file.
    ///
    /// # Errors
    /// When the file cannot be read now, or holds no token.
    pub fn file(file: FlagFile) -> Result<Self, ConnectionError> {
        let token = Refreshed::new(read(&file)?);
        Ok(Self(Source::File(Arc::new(TokenFile { file, token }))))
    }

    /// The token to present now. A file that has become unreadable or damaged changes nothing: the
    /// last good token stays.
    #[must_use]
    pub fn current(&self) -> Option<Token> {
        match &self.0 {
            Source::None => None,
            Source::Fixed(token) => Some(token.clone()),
            Source::File(source) => {
                let token = source.token.get(&source.file, |old| {
                    let new = read(&source.file)?;
                    Ok::<_, ConnectionError>((new != *old).then_some(new))
                });
                Some(Token::clone(&token))
            }
        }
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::None => f.write_str("TokenSource(none)"),
            Source::Fixed(_) => f.write_str("TokenSource(fixed)"),
            Source::File(source) => write!(f, "TokenSource({})", source.file.path.display()),
        }
    }
}

fn read(file: &FlagFile) -> Result<Token, ConnectionError> {
    let text =
        std::fs::read_to_string(&file.path).map_err(|source| ConnectionError::Unreadable {
            file: file.clone(),
            source,
        })?;
    Token::parse(&text).map_err(|source| ConnectionError::Token {
        file: file.clone(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::refreshed::REFRESH_INTERVAL;

    fn source(path: &Path) -> TokenSource {
        TokenSource::file(FlagFile::new("--token", path)).expect("a token")
    }

    fn current(source: &TokenSource) -> String {
        source.current().expect("a token").expose().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn rotated_token_is_presented_within_the_interval() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "first\n").unwrap();
        let source = source(&path);
        assert_eq!(current(&source), "first");

        std::fs::write(&path, "second").unwrap();
        assert_eq!(current(&source), "first", "not read for every request");
        tokio::time::advance(REFRESH_INTERVAL).await;
        assert_eq!(current(&source), "second");
    }

    #[tokio::test(start_paused = true)]
    async fn last_good_token_survives_a_damaged_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "good").unwrap();
        let source = source(&path);
        for damage in [&b""[..], b"two words", b"\xff\xfe"] {
            std::fs::write(&path, damage).unwrap();
            tokio::time::advance(REFRESH_INTERVAL).await;
            assert_eq!(current(&source), "good");
        }
        std::fs::remove_file(&path).unwrap();
        tokio::time::advance(REFRESH_INTERVAL).await;
        assert_eq!(current(&source), "good");
        std::fs::write(&path, "better").unwrap();
        tokio::time::advance(REFRESH_INTERVAL + Duration::from_secs(1)).await;
        assert_eq!(current(&source), "better");
    }

    #[test]
    fn missing_or_empty_file_is_an_error_at_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let error = TokenSource::file(FlagFile::new("--hub-kubeconfig", &path)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("--hub-kubeconfig {}: no such file", path.display())
        );
        std::fs::write(&path, " \n").unwrap();
        let error = TokenSource::file(FlagFile::new("--hub-kubeconfig", &path)).unwrap_err();
        assert!(
            error.to_string().ends_with("the bearer token is empty"),
            "{error}"
        );
    }

    #[test]
    fn debug_shows_no_token() {
        let source = TokenSource::fixed(Token::parse("s3cret").unwrap());
        assert_eq!(format!("{source:?}"), "TokenSource(fixed)");
    }
}
