//! Uploading over SFTP: into `NAME.part`, and under its name only when whole. Files are their owner's only.

use std::{path::Path, time::Duration};

use russh_sftp::{
    client::{Config, SftpSession, error::Error},
    protocol::{FileAttributes, OpenFlags, StatusCode},
};
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncWriteExt as _, BufReader},
    time::timeout,
};

use super::{OPEN, Remote, RemoteError};

/// Owner only: a token, or a program that somebody else could change before it is installed.
const MODE: u32 = 0o600;
/// One request of SFTP on a busy machine over a slow line; a dead line is noticed sooner.
const REQUEST: u64 = 20;
/// The data of one write, and its packet: every SFTP server takes packets of 34,000 bytes.
const WRITE: usize = 32 << 10;
const WRITE_PACKET: u32 = 34_000;
/// Writes on their way at once: 1 MiB, so that a machine 150 ms away takes 7 MB/s, and one on a line of 50 kB/s still answers
/// in time.
const WRITES: usize = 32;

impl Remote {
    /// Uploads a file; what was at `to` is replaced.
    pub(crate) async fn upload_file(&self, from: &Path, to: &str, limit: Duration) -> Result<(), RemoteError> {
        let local = |source| RemoteError::Local { path: from.display().to_string(), source };
        let mut file = File::open(from).await.map_err(local)?;
        self.upload(&mut file, to, limit).await
    }

    /// Uploads a text; what was at `to` is replaced.
    pub(crate) async fn upload_text(&self, text: &str, to: &str, limit: Duration) -> Result<(), RemoteError> {
        self.upload(&mut text.as_bytes(), to, limit).await
    }

    async fn upload(
        &self,
        content: &mut (impl AsyncRead + Unpin),
        to: &str,
        limit: Duration,
    ) -> Result<(), RemoteError> {
        match timeout(limit, self.upload_unhurried(content, to)).await {
            Ok(done) => done,
            Err(_) => Err(RemoteError::Slow { what: "an upload", limit }),
        }
    }

    async fn upload_unhurried(&self, content: &mut (impl AsyncRead + Unpin), to: &str) -> Result<(), RemoteError> {
        let sftp = self.sftp().await?;
        let part = format!("{to}.part");
        let failed = |error| self.failed(&part, error);
        remove(&sftp, &part).await.map_err(failed)?;
        let flags = OpenFlags::CREATE | OpenFlags::EXCLUDE | OpenFlags::WRITE;
        let private = FileAttributes { permissions: Some(MODE), ..FileAttributes::empty() };
        let mut file = sftp.open_with_flags_and_attributes(&part, flags, private).await.map_err(failed)?;
        let mut content = BufReader::with_capacity(WRITE, content);
        let copied = tokio::io::copy_buf(&mut content, &mut file).await;
        copied.map_err(|error| self.failed(&part, error.into()))?;
        file.flush().await.map_err(|error| self.failed(&part, error.into()))?;
        file.close().await.map_err(|error| self.failed(&part, error.into()))?;
        // SFTP's rename replaces nothing.
        remove(&sftp, to).await.map_err(failed)?;
        sftp.rename(&part, to).await.map_err(failed)?;
        // Whatever the goodbye says, the file is there.
        let _ = sftp.close().await;
        Ok(())
    }

    async fn sftp(&self) -> Result<SftpSession, RemoteError> {
        let channel = self.channel().await?;
        let begin = async {
            channel.request_subsystem(true, "sftp").await.map_err(|_| RemoteError::NoPrograms("SFTP"))?;
            let config = Config {
                request_timeout_secs: REQUEST,
                max_write_packet_len: WRITE_PACKET,
                max_concurrent_writes: WRITES,
                ..Config::default()
            };
            let session = SftpSession::new_with_config(channel.into_stream(), config).await;
            session.map_err(|error| {
                if self.is_closed() { RemoteError::lost("upload", error) } else { RemoteError::NoPrograms("SFTP") }
            })
        };
        timeout(OPEN, begin).await.unwrap_or(Err(RemoteError::Slow { what: "opening SFTP", limit: OPEN }))
    }

    /// A dead connection is no full disk.
    fn failed(&self, path: &str, error: Error) -> RemoteError {
        match error {
            Error::Status(status) if status.status_code == StatusCode::PermissionDenied => {
                RemoteError::Forbidden { path: path.to_owned(), user: self.user.clone(), reason: status.error_message }
            }
            Error::Status(status) if status.status_code != StatusCode::ConnectionLost => RemoteError::Write {
                path: path.to_owned(),
                reason: format!("{}: {}", status.status_code, status.error_message),
            },
            error => RemoteError::lost("upload", error),
        }
    }
}

async fn remove(sftp: &SftpSession, path: &str) -> Result<(), Error> {
    match sftp.remove_file(path).await {
        Err(Error::Status(status)) if status.status_code == StatusCode::NoSuchFile => Ok(()),
        other => other,
    }
}
