//! A configuration made of files, swapped whole when they change.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::files::TlsError;

/// Files that make a configuration.
pub(super) trait Sources {
    type Config;

    /// What stands in the files now.
    fn read(&self) -> Result<Vec<Vec<u8>>, TlsError>;

    /// The configuration that `bytes`, as [`Self::read`] gave them, make.
    fn build(&self, bytes: &[Vec<u8>]) -> Result<Self::Config, TlsError>;
}

/// The newest good configuration.
pub(super) struct Reloading<S: Sources> {
    /// Absent for a configuration made of PEM in memory.
    pub(super) files: Option<S>,
    current: ArcSwap<Current<S::Config>>,
}

struct Current<Config> {
    /// What the configuration was made of, to see whether it changed.
    bytes: Vec<Vec<u8>>,
    config: Arc<Config>,
}

impl<S: Sources> Reloading<S> {
    pub(super) fn load(files: S) -> Result<Self, TlsError> {
        let bytes = files.read()?;
        let config = Arc::new(files.build(&bytes)?);
        let current = ArcSwap::from_pointee(Current { bytes, config });
        Ok(Self {
            files: Some(files),
            current,
        })
    }

    pub(super) fn fixed(config: S::Config) -> Self {
        let current = Current {
            bytes: Vec::new(),
            config: Arc::new(config),
        };
        Self {
            files: None,
            current: ArcSwap::from_pointee(current),
        }
    }

    pub(super) fn config(&self) -> Arc<S::Config> {
        Arc::clone(&self.current.load().config)
    }

    pub(super) fn reload(&self) -> Result<bool, TlsError> {
        let Some(files) = &self.files else {
            return Ok(false);
        };
        let bytes = files.read()?;
        if bytes == self.current.load().bytes {
            return Ok(false);
        }
        self.build(files, bytes)?;
        Ok(true)
    }

    /// Makes the configuration anew, whether the files changed or not.
    pub(super) fn rebuild(&self) -> Result<(), TlsError> {
        self.files
            .as_ref()
            .map_or(Ok(()), |files| self.build(files, files.read()?))
    }

    fn build(&self, files: &S, bytes: Vec<Vec<u8>>) -> Result<(), TlsError> {
        let config = Arc::new(files.build(&bytes)?);
        self.current.store(Arc::new(Current { bytes, config }));
        Ok(())
    }

    /// Looks at the files every `interval`, for ever. Secrets are swapped by renaming a link,
    /// which file watches miss or see half of; reading a few kilobytes does not.
    pub(super) async fn keep_fresh(&self, interval: Duration) {
        let mut last_error = None;
        loop {
            tokio::time::sleep(interval).await;
            match self.reload() {
                Ok(changed) => {
                    if changed {
                        tracing::info!("changed TLS files are in use for new connections");
                    }
                    last_error = None;
                }
                Err(error) => {
                    let error = error.to_string();
                    if last_error.as_ref() != Some(&error) {
                        tracing::warn!(
                            %error,
                            "changed TLS files cannot be used; the last good ones stay"
                        );
                        last_error = Some(error);
                    }
                }
            }
        }
    }
}
