//! Sending the agent: to the user's home first, where only the user reads it; whether it arrived whole is asked there.

use std::time::Duration;

use cladnet_model::deployment::FailureReason;

use super::{Machine, inspect::staged};
use crate::{binary::Binary, failed::Failed};

/// 20 MB at 350 kbit/s. A line that is dead is noticed at once, one that crawls after this.
const UPLOAD: Duration = Duration::from_secs(480);

/// The name of the upload.
const NAME: &str = "agent";

impl Machine<'_> {
    /// Sends it and asks for its hash.
    pub(crate) async fn upload(&self, binary: &Binary) -> Result<(), Failed> {
        self.remote.upload_file(&binary.path, &self.staged()?, UPLOAD).await?;
        if staged(self.remote).await?.as_deref() != Some(&*binary.release.sha256) {
            let detail =
                "what arrived is not what was sent, or the program here was replaced meanwhile; repeat the deployment";
            return Err(Failed::new(FailureReason::UploadCorrupt, detail));
        }
        Ok(())
    }

    /// The path of the upload.
    pub(super) fn staged(&self) -> Result<String, Failed> {
        Ok(format!("{}/{NAME}", self.staging()?))
    }
}
