//! Whose process holds the other end of a connection within this machine.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::procfs;
use super::{Owner, Room};

/// What is known of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerKind {
    /// A process of one of this room's trees, and whose tree it is.
    Ours(Owner),
    /// Some other process.
    Other,
    /// Its end is closed, so that nobody holds it any more.
    Gone,
}

impl Room {
    /// Whose the end `peer` of a connection is, whose other end, `local`, is
    /// ours. Costs nothing while no tree is alive; else one look at the table of
    /// sockets and at the open files of our own trees, whose descendants cannot
    /// leave them: each shim adopts what is orphaned below it.
    ///
    /// A process that made itself unreadable cannot be looked into by an
    /// ordinary user, and counts as another: the same user is no boundary.
    #[must_use]
    pub fn caller(&self, peer: SocketAddr, local: SocketAddr) -> CallerKind {
        let trees = self.0.trees.all();
        if trees.is_empty() {
            return CallerKind::Other;
        }
        // Without a table there is no way to know, as on a system without /proc.
        let Some(inode) = inode_of(peer, local) else {
            return CallerKind::Gone;
        };
        let socket = format!("socket:[{inode}]");
        let mut seen = BTreeSet::new();
        let ours = trees.into_iter().find(|tree| {
            [tree.shim, tree.agent]
                .into_iter()
                .flatten()
                .flat_map(|root| std::iter::once(root).chain(procfs::descendants(root.pid)))
                .filter(|process| seen.insert(process.pid))
                .any(|process| holds(process.pid, &socket))
        });
        ours.map_or(CallerKind::Other, |tree| CallerKind::Ours(tree.owner))
    }
}

fn holds(pid: i32, socket: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    files
        .flatten()
        .any(|file| fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == socket))
}

/// The inode of the socket whose own end is `near` and whose other end is `far`;
/// none when there is no such socket, or nobody holds it.
fn inode_of(near: SocketAddr, far: SocketAddr) -> Option<u64> {
    let ends = (canonical(near), canonical(far));
    // A socket of the one family may carry a connection of the other.
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .into_iter()
        .filter_map(|table| fs::File::open(table).ok())
        .flat_map(|table| BufReader::new(table).lines().map_while(Result::ok))
        .filter_map(|line| parse(&line))
        .find_map(|(own, other, inode)| ((own, other) == ends).then_some(inode))
        .filter(|inode| *inode != 0)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// `sl local rem st tx:rx tr:when retrnsmt uid timeout inode …`
fn parse(line: &str) -> Option<(SocketAddr, SocketAddr, u64)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let own = address(fields.next()?)?;
    let other = address(fields.next()?)?;
    let inode = fields.nth(6)?.parse().ok()?;
    Some((own, other, inode))
}

/// `0100007F:251E`: words of four bytes, each as this machine's memory holds
/// them, and the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    for word in words.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip: IpAddr = match bytes.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
        16 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
        _ => return None,
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(canonical(SocketAddr::new(ip, port)))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn both_families_are_read() {
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(at).unwrap();
            let address = listener.local_addr().unwrap();
            let client = TcpStream::connect(address).unwrap();
            let near = client.local_addr().unwrap();
            let seen = inode_of(near, address).expect("a socket");
            let link = fs::read_link(format!(
                "/proc/self/fd/{}",
                std::os::fd::AsRawFd::as_raw_fd(&client)
            ));
            assert_eq!(
                link.unwrap().as_os_str(),
                format!("socket:[{seen}]").as_str()
            );
            assert_eq!(inode_of(near, near), None);
        }
    }

    #[test]
    fn an_ipv4_connection_of_an_ipv6_socket_is_found() {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        assert!(inode_of(peer, accepted.local_addr().unwrap()).is_some());
        drop(client);
    }

    #[test]
    fn what_is_no_line_of_the_table_is_skipped() {
        for line in [
            "",
            "  sl  local_address rem_address",
            "0: 01:2 0:0 1 2 3 4 5 6",
        ] {
            assert_eq!(parse(line), None, "{line:?}");
        }
    }
}
