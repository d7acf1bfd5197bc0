//! Stages that a signal ended, as a shell tells them.
//!
//! A shell names the signal of each command that it waited for and that was killed, except where that is usual: of PIPE,
//! INT and TERM nothing is said. Here the stage is named as well, since a line has several.

use std::ffi::CStr;

use rmpv::Value;

use super::field;

/// Of these nothing is said.
const USUAL: [i32; 3] = [libc::SIGPIPE, libc::SIGINT, libc::SIGTERM];

/// A line for each stage of the run that was killed, in the line's order: `stage 1 (sort): Killed`.
pub fn notes(run: &Value) -> Vec<String> {
    let stages = field(run, "stages").and_then(Value::as_array);
    stages.into_iter().flatten().filter_map(note).collect()
}

fn note(stage: &Value) -> Option<String> {
    let signal = i32::try_from(field(stage, "signal")?.as_i64()?).ok()?;
    if USUAL.contains(&signal) {
        return None;
    }
    let (number, service) = (field(stage, "stage")?, field(stage, "service")?);
    Some(format!(
        "stage {number} ({}): {}",
        service.as_str()?,
        description(signal)
    ))
}

/// As strsignal(3) has it, in English since no locale is set: `Killed`, `Segmentation fault`.
fn description(signal: i32) -> String {
    // SAFETY: gives a text that ends with a zero, valid until the next call; this process calls it in one thread.
    let text = unsafe {
        let text = libc::strsignal(signal);
        (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    };
    text.unwrap_or_else(|| format!("Unknown signal {signal}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_stage_is_named_wherever_it_stands_and_the_usual_signals_are_not() {
        let stage = |number: i32, signal: Value| {
            Value::Map(vec![
                ("stage".into(), number.into()),
                ("service".into(), "sh".into()),
                ("signal".into(), signal),
            ])
        };
        let signals = [
            9.into(),
            13.into(),
            2.into(),
            15.into(),
            Value::Nil,
            11.into(),
            1.into(),
        ];
        let stages = (1..).zip(signals).map(|(number, signal)| stage(number, signal));
        let run = Value::Map(vec![("stages".into(), Value::Array(stages.collect()))]);
        assert_eq!(
            notes(&run),
            [
                "stage 1 (sh): Killed",
                "stage 6 (sh): Segmentation fault",
                "stage 7 (sh): Hangup"
            ]
        );
        assert!(notes(&Value::Nil).is_empty());
    }
}
