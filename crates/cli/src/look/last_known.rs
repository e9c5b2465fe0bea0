//! What a node without a majority last knew of the members. It turns every client away, and says this with it; nobody has a
//! session then, so it is read from a bare connection.

use core::time::Duration;
use std::{
    io::{self, Read},
    net::{TcpStream, ToSocketAddrs as _},
    os::unix::net::UnixStream,
};

use lockstead::{
    Client,
    endpoint::{self, Endpoint},
};
use lockstead_types::{
    message::{Rejection, ServerMessage},
    reply::Reply,
    report::{MemberRow, Report},
};
use lockstead_wire::{DecodeLimits, FIRST_FRAME_BYTES, server_messages, split_frame};

use super::members::{self, Known};
use crate::{
    args::ConnectArgs,
    connect::connect,
    exit::{Exit, Failure},
    output::OutputArgs,
};

/// How long a node may take to turn a connection away.
const WITHIN: Duration = Duration::from_secs(1);

/// A client. Where no node serves, but one is there, what that one last knew of the members is printed before the failure.
///
/// # Errors
/// As [`connect`].
pub(crate) async fn connect_or_show(args: &ConnectArgs, output: &OutputArgs) -> Result<Client, Failure> {
    let failure = match connect(args).await {
        Ok(client) => return Ok(client),
        Err(failure) => failure,
    };
    let endpoints = endpoint::parse(&args.endpoints).unwrap_or_default();
    if failure.exit == Exit::Unavailable
        && let Some((from, members)) = endpoints.iter().find_map(|at| Some((at, ask(at)?)))
    {
        members::print(output, &members, &Known::Last { from: &from.to_string() })?;
    }
    Err(failure)
}

/// Asks one node; nothing where it is not there, or takes clients.
fn ask(endpoint: &Endpoint) -> Option<Vec<MemberRow>> {
    let bytes = match endpoint {
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(path).ok()?;
            stream.set_read_timeout(Some(WITHIN)).ok()?;
            read(stream)
        }
        Endpoint::Tcp(address) => {
            let mut addresses = address.to_socket_addrs().ok()?;
            let stream = addresses.find_map(|at| TcpStream::connect_timeout(&at, WITHIN).ok())?;
            stream.set_read_timeout(Some(WITHIN)).ok()?;
            read(stream)
        }
    };
    members_of(&bytes.ok()?)
}

/// Everything it says before it closes.
fn read(stream: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(2 * u64::from(FIRST_FRAME_BYTES)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn members_of(mut bytes: &[u8]) -> Option<Vec<MemberRow>> {
    let (mut turned_away, mut members) = (false, None);
    while let Ok(Some((body, length))) = split_frame(bytes, FIRST_FRAME_BYTES) {
        for message in server_messages(body, &DecodeLimits::CEILING) {
            match message.ok()? {
                ServerMessage::Rejected { why: Rejection::NoAuthority } => turned_away = true,
                ServerMessage::Reply { reply: Reply::Report(report), .. } => {
                    members = if let Report::Members(rows) = *report { Some(rows) } else { None };
                }
                _ => return None,
            }
        }
        bytes = bytes.get(length..)?;
    }
    members.filter(|rows: &Vec<MemberRow>| turned_away && !rows.is_empty())
}

#[cfg(test)]
mod tests {
    use lockstead_types::RequestId;
    use lockstead_wire::FrameWriter;

    use super::*;

    #[test]
    fn only_what_comes_with_a_rejection_counts() {
        let row = MemberRow {
            node: lockstead_types::NodeId(1),
            state: lockstead_types::report::MemberStage::Up,
            incarnation: 1,
            weight: 100,
            slots: 4_096,
            pinned: Vec::new(),
            used: 0,
            sessions: 0,
            identity: 1,
            peer_address: String::new(),
            client_address: String::new(),
        };
        let rejected = |why| ServerMessage::Rejected { why };
        let reply = Reply::Report(Box::new(Report::Members(vec![row])));
        let told = ServerMessage::Reply { id: RequestId(0), reply };
        let said = |messages: &[&ServerMessage]| {
            let mut bytes = Vec::new();
            let mut writer = FrameWriter::new(FIRST_FRAME_BYTES);
            messages.iter().for_each(|message| writer.server(&mut bytes, message).expect("fits"));
            writer.finish();
            members_of(&bytes).map(|rows| rows.len())
        };
        assert_eq!(said(&[&rejected(Rejection::NoAuthority), &told]), Some(1));
        assert_eq!(said(&[&rejected(Rejection::NoAuthority)]), None, "an older node says nothing more");
        assert_eq!(said(&[&rejected(Rejection::Full), &told]), None);
        assert_eq!(members_of(b"HTTP/1.1 400 Bad Request\r\n\r\n"), None);
    }
}
