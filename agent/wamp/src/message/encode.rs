//! Writing messages: the head is made anew, the payload copied once as it is.

use crate::message::{
    CallOptions, CancelMode, HelloDetails, InvocationDetails, Message, Payload, RegisterOptions,
    RoleFeatures, kind,
};
use crate::write;

impl Message<'_> {
    /// Appends the message's MessagePack, payload included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let payload = self.encode_head(out);
        out.extend_from_slice(payload.bytes);
    }

    /// Appends all but the payload's bytes, which must follow: for a payload that is copied from elsewhere.
    pub fn encode_head(&self, out: &mut Vec<u8>) -> Payload<'_> {
        match *self {
            Message::Hello { realm, details } => {
                head(out, 3, kind::HELLO);
                write::text(out, realm);
                details.write(out);
            }
            Message::Welcome { session, details } => {
                head(out, 3, kind::WELCOME);
                write::unsigned(out, session);
                out.extend_from_slice(details);
            }
            Message::Abort { details, reason } => ending(out, kind::ABORT, details, reason),
            Message::Goodbye { details, reason } => ending(out, kind::GOODBYE, details, reason),
            Message::Challenge { method, extra } => {
                head(out, 3, kind::CHALLENGE);
                write::text(out, method);
                out.extend_from_slice(extra);
            }
            Message::Authenticate { signature, extra } => {
                head(out, 3, kind::AUTHENTICATE);
                write::text(out, signature);
                out.extend_from_slice(extra);
            }
            Message::Register {
                request,
                options,
                procedure,
            } => {
                head(out, 4, kind::REGISTER);
                write::unsigned(out, request);
                options.write(out);
                write::text(out, procedure);
            }
            Message::Registered {
                request,
                registration,
            } => {
                numbers(out, kind::REGISTERED, &[request, registration]);
            }
            Message::Unregister {
                request,
                registration,
            } => {
                numbers(out, kind::UNREGISTER, &[request, registration]);
            }
            Message::Unregistered { request } => numbers(out, kind::UNREGISTERED, &[request]),
            Message::Cancel { request, mode } => {
                head(out, 3, kind::CANCEL);
                write::unsigned(out, request);
                mode.write(out, None);
            }
            Message::Interrupt {
                request,
                mode,
                reason,
            } => {
                head(out, 3, kind::INTERRUPT);
                write::unsigned(out, request);
                mode.write(out, reason);
            }
            _ => return self.encode_head_with_payload(out),
        }
        Payload::EMPTY
    }

    fn encode_head_with_payload(&self, out: &mut Vec<u8>) -> Payload<'_> {
        match *self {
            Message::Error {
                kind,
                request,
                details,
                error,
                payload,
            } => {
                head(out, 5 + payload.parts, kind::ERROR);
                write::unsigned(out, kind);
                write::unsigned(out, request);
                out.extend_from_slice(details);
                write::text(out, error);
                payload
            }
            Message::Call {
                request,
                options,
                procedure,
                payload,
            } => {
                head(out, 4 + payload.parts, kind::CALL);
                write::unsigned(out, request);
                options.write(out);
                write::text(out, procedure);
                payload
            }
            Message::Invocation {
                request,
                registration,
                details,
                payload,
            } => {
                head(out, 4 + payload.parts, kind::INVOCATION);
                write::unsigned(out, request);
                write::unsigned(out, registration);
                details.write(out);
                payload
            }
            Message::Result {
                request,
                progress,
                payload,
            } => answer(out, kind::RESULT, request, progress, payload),
            Message::Yield {
                request,
                progress,
                payload,
            } => answer(out, kind::YIELD, request, progress, payload),
            // All others were written by `encode_head`.
            _ => Payload::EMPTY,
        }
    }
}

fn head(out: &mut Vec<u8>, elements: u8, kind: u64) {
    // Messages have at most 7 elements: a fixarray.
    out.push(0x90 | elements);
    write::unsigned(out, kind);
}

fn numbers(out: &mut Vec<u8>, kind: u64, numbers: &[u64]) {
    head(out, 1 + numbers.len() as u8, kind);
    numbers.iter().for_each(|number| write::unsigned(out, *number));
}

fn ending(out: &mut Vec<u8>, kind: u64, details: &[u8], reason: &str) {
    head(out, 3, kind);
    out.extend_from_slice(details);
    write::text(out, reason);
}

fn answer<'a>(
    out: &mut Vec<u8>,
    kind: u64,
    request: u64,
    progress: bool,
    payload: Payload<'a>,
) -> Payload<'a> {
    head(out, 3 + payload.parts, kind);
    write::unsigned(out, request);
    write::map(out, usize::from(progress));
    if progress {
        write::flag(out, "progress", true);
    }
    payload
}

impl HelloDetails<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let entries = usize::from(self.has_role)
            + usize::from(self.authmethods.is_some())
            + usize::from(self.authid.is_some())
            + usize::from(self.pubkey.is_some() || self.channel_binding.is_some());
        write::map(out, entries);
        if self.has_role {
            self.write_roles(out);
        }
        if let Some(methods) = self.authmethods {
            write::text(out, "authmethods");
            out.extend_from_slice(methods);
        }
        if let Some(authid) = self.authid {
            write::text(out, "authid");
            write::text(out, authid);
        }
        let extra = [("pubkey", self.pubkey), ("channel_binding", self.channel_binding)];
        let extra = extra.iter().filter_map(|(key, value)| Some((key, (*value)?)));
        if extra.clone().count() > 0 {
            write::text(out, "authextra");
            write::map(out, extra.clone().count());
            for (key, value) in extra {
                write::text(out, key);
                write::text(out, value);
            }
        }
    }

    fn write_roles(&self, out: &mut Vec<u8>) {
        write::text(out, "roles");
        write::map(
            out,
            usize::from(self.caller.present) + usize::from(self.callee.present),
        );
        for (name, role) in [("caller", self.caller), ("callee", self.callee)] {
            if role.present {
                write::text(out, name);
                role.write(out);
            }
        }
    }
}

impl RoleFeatures {
    fn write(self, out: &mut Vec<u8>) {
        write::map(out, 1);
        write::text(out, "features");
        // The specification spells one feature both ways: announce both.
        let features = [
            ("progressive_call_results", self.progressive_results),
            ("progressive_call_invocations", self.progressive_invocations),
            ("call_canceling", self.canceling),
            ("call_cancelling", self.canceling),
            ("call_timeout", self.timeout),
        ];
        write::map(out, features.iter().filter(|(_, on)| *on).count());
        features
            .iter()
            .filter(|(_, on)| *on)
            .for_each(|(name, _)| write::flag(out, name, true));
    }
}

impl RegisterOptions<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let texts = [("match", self.matching), ("invoke", self.invoke)];
        write::map(
            out,
            texts.iter().filter(|(_, text)| text.is_some()).count() + usize::from(self.forward_timeout),
        );
        for (key, value) in texts {
            if let Some(value) = value {
                write::text(out, key);
                write::text(out, value);
            }
        }
        if self.forward_timeout {
            write::flag(out, "forward_timeout", true);
        }
    }
}

impl CallOptions<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let flags = [
            ("progress", self.progress),
            ("receive_progress", self.receive_progress),
            ("disclose_me", self.disclose_me),
        ];
        let set = flags.iter().filter(|(_, on)| *on).count();
        write::map(
            out,
            set + usize::from(self.timeout_ms > 0) + usize::from(self.grant.is_some()),
        );
        flags
            .iter()
            .filter(|(_, on)| *on)
            .for_each(|(name, _)| write::flag(out, name, true));
        if self.timeout_ms > 0 {
            write::text(out, "timeout");
            write::unsigned(out, self.timeout_ms);
        }
        if let Some(grant) = self.grant {
            write::text(out, "x_pipes_grant");
            write::text(out, grant);
        }
    }
}

impl InvocationDetails<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let flags = [
            ("progress", self.progress),
            ("receive_progress", self.receive_progress),
        ];
        let set = flags.iter().filter(|(_, on)| *on).count();
        let others = usize::from(self.procedure.is_some())
            + usize::from(self.caller.is_some())
            + usize::from(self.timeout_ms > 0)
            + usize::from(self.token.is_some());
        write::map(out, set + others);
        flags
            .iter()
            .filter(|(_, on)| *on)
            .for_each(|(name, _)| write::flag(out, name, true));
        if let Some(procedure) = self.procedure {
            write::text(out, "procedure");
            write::text(out, procedure);
        }
        if let Some(caller) = self.caller {
            write::text(out, "caller");
            write::unsigned(out, caller);
        }
        if self.timeout_ms > 0 {
            write::text(out, "timeout");
            write::unsigned(out, self.timeout_ms);
        }
        if let Some(token) = self.token {
            write::text(out, "x_pipes_token");
            write::text(out, token);
        }
    }
}

impl CancelMode {
    fn write(self, out: &mut Vec<u8>, reason: Option<&str>) {
        write::map(out, 1 + usize::from(reason.is_some()));
        write::text(out, "mode");
        write::text(out, self.name());
        if let Some(reason) = reason {
            write::text(out, "reason");
            write::text(out, reason);
        }
    }
}
