//! A Unix socket that a server listens on: who may connect is decided by the file's mode, and the
//! file goes when the server does.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use crate::error::StartError;

/// A bound socket. Dropped, its file is removed, unless another process has put its own there.
#[derive(Debug)]
pub struct UnixSocket {
    /// What accepts connections.
    pub listener: UnixListener,
    path: PathBuf,
    /// Device and number of the file that this process made.
    file: (u64, u64),
}

impl UnixSocket {
    /// Binds `path`, with mode 0770 whatever the umask is. A socket that is there already is
    /// replaced if `replace`; other files never are.
    ///
    /// # Errors
    /// [`StartError::Failed`] naming `flag`, the path and the cause.
    pub fn bind(flag: &str, path: &Path, replace: bool) -> Result<Self, StartError> {
        let failed = |cause: &dyn std::fmt::Display| {
            StartError::failed(format_args!("{flag} {}: {cause}", path.display()))
        };
        match std::fs::symlink_metadata(path) {
            Ok(file) if !file.file_type().is_socket() => {
                return Err(failed(&"there is a file that is no socket; remove it"));
            }
            Ok(_) if !replace => {
                return Err(failed(
                    &"there is a socket already; remove it, or let it be replaced",
                ));
            }
            Ok(_) => std::fs::remove_file(path).map_err(|error| failed(&error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&error)),
        }
        Self::listen(path).map_err(|error| failed(&error))
    }

    fn listen(path: &Path) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // The file gets the mode that the socket has before it, less the umask: there is no moment
        // in which others may connect.
        let socket = File::from(OwnedFd::from(socket));
        socket.set_permissions(Permissions::from_mode(MODE))?;
        let socket = Socket::from(OwnedFd::from(socket));
        socket.bind(&SockAddr::unix(path)?)?;
        let file = std::fs::symlink_metadata(path)?;
        // And what the umask took away.
        std::fs::set_permissions(path, Permissions::from_mode(MODE))?;
        socket.set_nonblocking(true)?;
        socket.listen(BACKLOG)?;
        Ok(Self {
            listener: UnixListener::from_std(socket.into())?,
            path: path.to_owned(),
            file: (file.dev(), file.ino()),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let is_own = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == self.file);
        if is_own && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket's file stays behind");
        }
    }
}

/// Owner and group.
const MODE: u32 = 0o770;

/// Connections that the system holds until they are accepted; as the standard library has it.
const BACKLOG: i32 = 128;

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use tokio::net::UnixStream;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn owner_and_group_may_connect_while_it_is_there() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("socket");
        let socket = UnixSocket::bind("--uds-name", &path, true).unwrap();
        assert_eq!((socket.path(), mode(&path)), (path.as_path(), 0o770));
        let (_client, accepted) =
            tokio::join!(UnixStream::connect(&path), socket.listener.accept());
        accepted.unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_is_replaced_if_it_may_be_and_its_successor_stays() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("socket");
        let first = UnixSocket::bind("--uds-name", &path, true).unwrap();
        let error = UnixSocket::bind("--uds-name", &path, false).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "--uds-name {}: there is a socket already; remove it, or let it be replaced",
                path.display()
            )
        );
        let second = UnixSocket::bind("--uds-name", &path, true).unwrap();
        drop(first);
        assert!(UnixStream::connect(&path).await.is_ok());
        drop(second);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn other_files_stay() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "kept").unwrap();
        UnixSocket::bind("--uds-name", &path, true).unwrap_err();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
        let nowhere = folder.path().join("no/such/folder");
        let error = UnixSocket::bind("--uds-name", &nowhere, true).unwrap_err();
        assert!(error.to_string().contains("No such file"), "{error}");
    }
}
