//! The subcommands' side of the control socket.

use std::{io, path::Path, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    time::timeout,
};

use super::{MAX_LINE, Reply, Request, Response};
use crate::failure::{Failure, Kind};

/// Asks the daemon; fails with [`Kind::Unreachable`] if none runs and [`Kind::Denied`] if the caller may not.
pub(crate) async fn ask(socket: &Path, request: &Request, patience: Duration) -> Result<Reply, Failure> {
    let stream = UnixStream::connect(socket).await.map_err(|error| cannot_connect(socket, &error))?;
    match timeout(patience, exchange(stream, request)).await {
        Ok(Ok(Response::Ok(reply))) => Ok(*reply),
        Ok(Ok(Response::Error(failure))) => Err(failure),
        Ok(Err(error)) => Err(Failure::new(Kind::Failed, format!("the daemon did not answer: {error}"))),
        Err(_) => Err(Failure::new(Kind::Failed, format!("the daemon did not answer within {} s", patience.as_secs()))),
    }
}

async fn exchange(stream: UnixStream, request: &Request) -> io::Result<Response> {
    let (reader, mut writer) = stream.into_split();
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    writer.write_all(&line).await?;
    line.clear();
    BufReader::new(reader.take(MAX_LINE as u64)).read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection; see its log"));
    }
    Ok(serde_json::from_slice(&line)?)
}

fn cannot_connect(socket: &Path, error: &io::Error) -> Failure {
    let socket = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure::new(
            Kind::Unreachable,
            format!(
                "the daemon is not running (no one listens on {socket}); start it with `systemctl start cladnet-agent`, or `cladnet-agent run`"
            ),
        ),
        io::ErrorKind::PermissionDenied => {
            Failure::new(Kind::Denied, format!("no permission to use {socket}; run this as root"))
        }
        _ => Failure::new(Kind::Failed, format!("cannot connect to the daemon on {socket}: {error}")),
    }
}
