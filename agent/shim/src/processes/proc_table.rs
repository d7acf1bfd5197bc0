//! The shim's descendants as /proc shows them.

use std::collections::HashMap;
use std::fs;
use std::io::Read;

/// A process, as far as it matters whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Its number.
    pub pid: libc::pid_t,
    /// Its parent's.
    pub parent: libc::pid_t,
    /// Its process group.
    pub group: libc::pid_t,
    /// Its session.
    pub session: libc::pid_t,
    state: u8,
}

impl Stat {
    /// Whether it has ended and only waits for its parent.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }

    /// Whether a signal has stopped it.
    pub fn is_stopped(&self) -> bool {
        self.state == b'T'
    }
}

/// The shim's children; `None` where the kernel does not list them. It has one thread.
pub fn children_of_self() -> Option<Vec<libc::pid_t>> {
    let text = fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id())).ok()?;
    Some(
        text.split_ascii_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect(),
    )
}

/// One process.
pub fn stat(pid: libc::pid_t) -> Option<Stat> {
    parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// All processes.
pub fn table() -> HashMap<libc::pid_t, Stat> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(stat).map(|stat| (stat.pid, stat)).collect()
}

/// The processes that descend from one.
pub fn below(ancestor: libc::pid_t) -> Vec<libc::pid_t> {
    let mut children: HashMap<libc::pid_t, Vec<libc::pid_t>> = HashMap::new();
    for stat in table().values() {
        children.entry(stat.parent).or_default().push(stat.pid);
    }
    let (mut found, mut ahead) = (Vec::new(), vec![ancestor]);
    // Each has one parent, and is taken out with it: this ends.
    while let Some(parent) = ahead.pop() {
        let of_it = children.remove(&parent).unwrap_or_default();
        found.extend(&of_it);
        ahead.extend(of_it);
    }
    found
}

/// Whether a process was started with all of these variables.
pub fn carries(pid: libc::pid_t, variables: &[String]) -> bool {
    let mut environment = Vec::new();
    let Ok(mut file) = fs::File::open(format!("/proc/{pid}/environ")) else {
        return false;
    };
    if file.read_to_end(&mut environment).is_err() {
        return false;
    }
    let carries = |wanted: &String| {
        environment
            .split(|byte| *byte == 0)
            .any(|pair| pair == wanted.as_bytes())
    };
    variables.iter().all(carries)
}

/// `PID (NAME) STATE PARENT GROUP SESSION ...`, where the name may hold blanks and brackets.
fn parse(pid: libc::pid_t, text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = *fields.next()?.as_bytes().first()?;
    let mut number = || fields.next()?.parse().ok();
    Some(Stat {
        pid,
        state,
        parent: number()?,
        group: number()?,
        session: number()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_brackets_does_not_move_the_fields() {
        let stat = parse(7, "7 (a) b (c) T 1 7 6 0 -1").unwrap();
        assert_eq!(
            stat,
            Stat {
                pid: 7,
                parent: 1,
                group: 7,
                session: 6,
                state: b'T'
            }
        );
        assert!(stat.is_stopped());
    }

    #[test]
    fn a_child_descends_from_this_process() {
        let mut child = std::process::Command::new("cat");
        let mut child = child.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let own = std::process::id() as libc::pid_t;
        let found = below(own);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&(child.id() as libc::pid_t)) && !found.contains(&own));
    }

    #[test]
    fn this_process_is_in_the_table() {
        let own = std::process::id() as libc::pid_t;
        assert_eq!(table()[&own].pid, own);
    }
}
