//! The environment of a stage: what every stage has, what its line and `--env` name, and who it is.

use std::ffi::{CString, NulError};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pipes_protocol::stage::Spec;

use crate::settings::Settings;

/// The variables in the form that `execve` takes. A caller's variable takes the place of PATH, HOME and TMPDIR, as in
/// a shell; none takes the place of what tells whose process this is, since orphans are found by it.
pub fn environment(settings: &Settings, spec: &Spec, folder: &Path) -> Result<Vec<CString>, NulError> {
    let folder = folder.as_os_str().as_bytes();
    let mut pairs: Vec<(&[u8], Vec<u8>)> = vec![
        (b"PATH", settings.path.as_bytes().to_vec()),
        (b"HOME", folder.to_vec()),
        (b"TMPDIR", folder.to_vec()),
    ];
    for (name, value) in &spec.env {
        set(&mut pairs, name, value.to_vec());
    }
    for (name, value) in stamp(spec) {
        set(&mut pairs, name.as_bytes(), value.into_bytes());
    }
    set(&mut pairs, b"PIPES_SERVICE", settings.service.as_bytes().to_vec());
    set(&mut pairs, b"PIPES_NODE", settings.node.as_bytes().to_vec());
    set(
        &mut pairs,
        b"PIPES_ATTEMPT",
        spec.attempt.to_string().into_bytes(),
    );
    pairs
        .into_iter()
        .map(|(name, value)| CString::new([name, b"=", &value].concat()))
        .collect()
}

/// The two variables that tell which invocation a process belongs to.
pub fn stamp(spec: &Spec) -> [(&'static str, String); 2] {
    [
        ("PIPES_RUN", spec.run.clone()),
        ("PIPES_STAGE", spec.stage.to_string()),
    ]
}

fn set<'a>(pairs: &mut Vec<(&'a [u8], Vec<u8>)>, name: &'a [u8], value: Vec<u8>) {
    match pairs.iter_mut().find(|(known, _)| *known == name) {
        Some(pair) => pair.1 = value,
        None => pairs.push((name, value)),
    }
}
