//! Options and details of messages: the keys that this router knows, typed; all others are ignored.

use crate::error::Error;
use crate::scan::Scan;

/// What a client says of itself in HELLO.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct HelloDetails<'a> {
    /// It announced a role at all.
    pub has_role: bool,
    /// Features of its role as caller.
    pub caller: RoleFeatures,
    /// Features of its role as callee.
    pub callee: RoleFeatures,
    /// Methods it can prove itself by: a list of texts, undecoded.
    pub authmethods: Option<&'a [u8]>,
    /// Who it says it is.
    pub authid: Option<&'a str>,
    /// More for the method (cryptosign: `pubkey`).
    pub pubkey: Option<&'a str>,
    /// What its signature covers beside the challenge (cryptosign: `channel_binding`).
    pub channel_binding: Option<&'a str>,
}

/// Features of a role that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoleFeatures {
    /// The role is there.
    pub present: bool,
    /// `progressive_call_results`.
    pub progressive_results: bool,
    /// `progressive_call_invocations`.
    pub progressive_invocations: bool,
    /// `call_canceling`, or as the specification spells it elsewhere `call_cancelling`.
    pub canceling: bool,
    /// `call_timeout`.
    pub timeout: bool,
}

/// Options of REGISTER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RegisterOptions<'a> {
    /// `exact` (also when absent), `prefix` or `wildcard`.
    pub matching: Option<&'a str>,
    /// Policy for several callees: `single` when absent.
    pub invoke: Option<&'a str>,
    /// The callee keeps the call's time itself.
    pub forward_timeout: bool,
}

/// Options of CALL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallOptions<'a> {
    /// More chunks follow.
    pub progress: bool,
    /// Progressive results are welcome.
    pub receive_progress: bool,
    /// Milliseconds until the dealer gives the call up; 0: never.
    pub timeout_ms: u64,
    /// The caller wants to be known to the callee.
    pub disclose_me: bool,
    /// `x_pipes_grant`: a procedure that the callee may call while this call lives. Taken from agents alone.
    pub grant: Option<&'a str>,
}

/// Details of INVOCATION.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InvocationDetails<'a> {
    /// More chunks follow.
    pub progress: bool,
    /// Progressive results are welcome.
    pub receive_progress: bool,
    /// The procedure called, where the registration does not tell.
    pub procedure: Option<&'a str>,
    /// The caller's session, if disclosed.
    pub caller: Option<u64>,
    /// Milliseconds the callee has, where it keeps the time itself.
    pub timeout_ms: u64,
    /// `x_pipes_token`: the token that let the caller in, by its name. Told to the agent alone, which knows its reach.
    pub token: Option<&'a str>,
}

/// How a call is given up (specification, Call Canceling).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CancelMode {
    /// The caller is answered at once, the callee not told.
    Skip,
    /// The callee is told, and its answer ends the call.
    Kill,
    /// The caller is answered at once, and the callee told.
    #[default]
    KillNoWait,
}

impl CancelMode {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            CancelMode::Skip => "skip",
            CancelMode::Kill => "kill",
            CancelMode::KillNoWait => "killnowait",
        }
    }

    pub(super) fn read<'a>(scan: &mut Scan<'a>) -> Result<(CancelMode, Option<&'a str>), Error> {
        let (mut mode, mut reason) = (CancelMode::default(), None);
        each(scan, |key, scan| {
            match key {
                "mode" => {
                    mode = match scan.text()? {
                        "skip" => CancelMode::Skip,
                        "kill" => CancelMode::Kill,
                        "killnowait" => CancelMode::KillNoWait,
                        _ => return Err(Error::Malformed("an unknown mode of cancelling")),
                    }
                }
                "reason" => reason = Some(scan.text()?),
                _ => drop(scan.skip()?),
            }
            Ok(())
        })?;
        Ok((mode, reason))
    }
}

/// A text; clients that have none say nil.
fn text_or_nil<'a>(scan: &mut Scan<'a>) -> Result<Option<&'a str>, Error> {
    let mut ahead = *scan;
    match ahead.text() {
        Ok(text) => {
            *scan = ahead;
            Ok(Some(text))
        }
        Err(_) => scan.skip().map(|_| None),
    }
}

impl<'a> HelloDetails<'a> {
    pub(super) fn read(scan: &mut Scan<'a>) -> Result<HelloDetails<'a>, Error> {
        let mut details = HelloDetails::default();
        each(scan, |key, scan| {
            match key {
                "roles" => each(scan, |role, scan| {
                    details.has_role = true;
                    match role {
                        "caller" => details.caller = RoleFeatures::read(scan)?,
                        "callee" => details.callee = RoleFeatures::read(scan)?,
                        _ => drop(scan.skip()?),
                    }
                    Ok(())
                })?,
                "authmethods" => details.authmethods = Some(scan.skip()?),
                "authid" => details.authid = Some(scan.text()?),
                "authextra" => each(scan, |key, scan| {
                    match key {
                        "pubkey" => details.pubkey = Some(scan.text()?),
                        "channel_binding" => details.channel_binding = text_or_nil(scan)?,
                        _ => drop(scan.skip()?),
                    }
                    Ok(())
                })?,
                _ => drop(scan.skip()?),
            }
            Ok(())
        })?;
        Ok(details)
    }

    /// Whether it can prove itself by `method`.
    pub fn offers(&self, method: &str) -> bool {
        let Some(list) = self.authmethods else {
            return false;
        };
        let mut scan = Scan::new(list);
        let count = scan.array().unwrap_or(0);
        (0..count)
            .map_while(|_| scan.text().ok())
            .any(|offered| offered == method)
    }
}

impl RoleFeatures {
    fn read(scan: &mut Scan<'_>) -> Result<RoleFeatures, Error> {
        let mut features = RoleFeatures {
            present: true,
            ..RoleFeatures::default()
        };
        each(scan, |key, scan| match key {
            "features" => each(scan, |feature, scan| {
                let flag = match feature {
                    "progressive_call_results" => &mut features.progressive_results,
                    "progressive_call_invocations" => &mut features.progressive_invocations,
                    "call_canceling" | "call_cancelling" => &mut features.canceling,
                    "call_timeout" => &mut features.timeout,
                    _ => return scan.skip().map(drop),
                };
                *flag |= scan.boolean()?;
                Ok(())
            }),
            _ => scan.skip().map(drop),
        })?;
        Ok(features)
    }
}

impl<'a> RegisterOptions<'a> {
    pub(super) fn read(scan: &mut Scan<'a>) -> Result<RegisterOptions<'a>, Error> {
        let mut options = RegisterOptions::default();
        each(scan, |key, scan| {
            match key {
                "match" => options.matching = Some(scan.text()?),
                "invoke" => options.invoke = Some(scan.text()?),
                "forward_timeout" => options.forward_timeout = scan.boolean()?,
                _ => drop(scan.skip()?),
            }
            Ok(())
        })?;
        Ok(options)
    }
}

impl<'a> CallOptions<'a> {
    pub(super) fn read(scan: &mut Scan<'a>) -> Result<CallOptions<'a>, Error> {
        let mut options = CallOptions::default();
        each(scan, |key, scan| {
            match key {
                "progress" => options.progress = scan.boolean()?,
                "receive_progress" => options.receive_progress = scan.boolean()?,
                "timeout" => options.timeout_ms = scan.unsigned()?,
                "disclose_me" => options.disclose_me = scan.boolean()?,
                "x_pipes_grant" => options.grant = Some(scan.text()?),
                _ => drop(scan.skip()?),
            }
            Ok(())
        })?;
        Ok(options)
    }
}

impl<'a> InvocationDetails<'a> {
    pub(super) fn read(scan: &mut Scan<'a>) -> Result<InvocationDetails<'a>, Error> {
        let mut details = InvocationDetails::default();
        each(scan, |key, scan| {
            match key {
                "progress" => details.progress = scan.boolean()?,
                "receive_progress" => details.receive_progress = scan.boolean()?,
                "procedure" => details.procedure = Some(scan.text()?),
                "caller" => details.caller = Some(scan.id()?),
                "timeout" => details.timeout_ms = scan.unsigned()?,
                "x_pipes_token" => details.token = Some(scan.text()?),
                _ => drop(scan.skip()?),
            }
            Ok(())
        })?;
        Ok(details)
    }
}

/// The one option of YIELD and detail of RESULT.
pub(super) fn progress(scan: &mut Scan<'_>) -> Result<bool, Error> {
    let mut progress = false;
    each(scan, |key, scan| {
        match key {
            "progress" => progress = scan.boolean()?,
            _ => drop(scan.skip()?),
        }
        Ok(())
    })?;
    Ok(progress)
}

/// Reads a dictionary key by key; `read` takes the value. A value that is nil is as good as absent.
fn each<'a>(
    scan: &mut Scan<'a>,
    mut read: impl FnMut(&'a str, &mut Scan<'a>) -> Result<(), Error>,
) -> Result<(), Error> {
    for _ in 0..scan.map()? {
        let key = scan.text()?;
        if scan.is_nil()? {
            scan.skip()?;
        } else {
            read(key, scan)?;
        }
    }
    Ok(())
}
