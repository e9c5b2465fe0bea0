//! Who a node is: asked over its peer port by the seat that forms the cluster, before there is a membership group that would
//! know. A question is [`WHO_MAGIC`] alone, the answer one line of text, then the connection is closed.
//!
//! ```text
//! lockstead node 2 identity 00112233445566778899aabbccddeeff weight 100 formed no client 127.0.0.1:7610
//! ```

use core::time::Duration;
use std::{
    io::{self, Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
};

use lockstead_types::NodeId;

use super::Me;

/// What a question consists of.
pub(crate) const WHO_MAGIC: [u8; 8] = *b"\xBDwho\0\0\0\x01";
/// Bytes of the longest answer.
const ANSWER_BYTES: u64 = 1_024;
/// How long asking may take.
pub(crate) const ASK_FOR: Duration = Duration::from_secs(1);

/// What a node says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Who {
    /// Its number.
    pub node: NodeId,
    /// The identity of its data.
    pub identity: u128,
    /// Its share of the slots.
    pub weight: u32,
    /// Whether it knows of a cluster that is formed.
    pub formed: bool,
    /// Where clients reach it.
    pub client_address: String,
}

/// Asks the node behind the address of a peer port who it is.
///
/// # Errors
/// Nobody is there, or no node.
pub fn ask(address: &str) -> io::Result<Who> {
    let mut stream = connect(address, ASK_FOR)?;
    stream.set_read_timeout(Some(ASK_FOR))?;
    stream.set_write_timeout(Some(ASK_FOR))?;
    stream.write_all(&WHO_MAGIC)?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES).read_to_string(&mut answer)?;
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is none of a node"))
}

/// Connects to the first of a name's addresses that answers.
pub(crate) fn connect(address: &str, within: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, within) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The answer of this node.
pub(crate) fn answer(me: &Me, formed: bool) -> String {
    let Me { node, identity, weight, client_address, .. } = me;
    let formed = if formed { "yes" } else { "no" };
    format!(
        "lockstead node {} identity {identity:032x} weight {weight} formed {formed} client {client_address}\n",
        node.0
    )
}

fn parse(text: &str) -> Option<Who> {
    let words: Vec<&str> = text.strip_suffix('\n')?.split(' ').collect();
    let ["lockstead", "node", node, "identity", identity, "weight", weight, "formed", formed, "client", client] =
        words[..]
    else {
        return None;
    };
    let formed = match formed {
        "yes" => true,
        "no" => false,
        _ => return None,
    };
    Some(Who {
        node: NodeId(node.parse().ok().filter(|node| *node > 0)?),
        identity: u128::from_str_radix(identity, 16).ok()?,
        weight: weight.parse().ok()?,
        formed,
        client_address: client.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let me = Me {
            node: NodeId(2),
            identity: 0xAB,
            peer_address: "127.0.0.1:7611".into(),
            client_address: "127.0.0.1:7610".into(),
            weight: 100,
        };
        let who =
            Who { node: NodeId(2), identity: 0xAB, weight: 100, formed: true, client_address: "127.0.0.1:7610".into() };
        let text = answer(&me, true);
        assert_eq!(parse(&text), Some(who));
        for end in 0..text.len() {
            assert_eq!(parse(&text[..end]), None, "cut at {end}");
        }
        for wrong in ["HTTP/1.1 400 Bad Request\n", "lockstead node 0 identity 1 weight 1 formed no client a\n", "\n"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
