//! From a request's head to what answers it.
//!
//! ```text
//! http://127.77.0.1:7080/words/jobs/j01/   common port: the first segment names the workflow
//! http://127.77.0.1:7100/jobs/j01/         its own port
//!                       /jobs/j01          what is left, the same with and without its last slash
//!
//! known? 404 (503: just started)   whole head? 400   over TLS? 400   own host and origin? 403
//! token? 401   a place? 429, 503   path? 404   method? 405
//! ```
//!
//! Always: (1) all of this comes before a byte of the body is asked for, and before `100 Continue` with that; (2) an error
//! is one sentence, in the form the client accepts; (3) a page that may send requests may read what is answered, refusals
//! too.

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CONTENT_LENGTH};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use tower::ServiceExt as _;

use crate::gateway::asked::{Asked, Gateway};
use crate::gateway::error::{self, Error, wants_json};
use crate::gateway::held::hold;
use crate::gateway::jobs::{job, list, result, submit};
use crate::gateway::socket::Peer;
use crate::gateway::{access, health, pipe};

/// What a listener serves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Every workflow, below its name.
    All,
    /// One.
    One(String),
}

/// Answers requests. A cheap handle.
#[derive(Clone)]
pub struct Routes {
    gateway: Gateway,
    router: Router,
}

impl Routes {
    /// Of a gateway.
    pub fn new(gateway: Gateway) -> Routes {
        let router = Router::new()
            .route("/", get(not_yet).post(submit::submit).put(submit::submit))
            .route("/openapi.json", get(not_yet))
            .route("/pipe", post(pipe::serve).put(pipe::serve))
            .route("/jobs", get(list::list))
            .route("/jobs/{id}", get(job::show).delete(job::cancel))
            .route("/jobs/{id}/result", get(result::give))
            .route("/healthz", get(health::alive))
            .route("/readyz", get(health::ready))
            .fallback(unknown)
            // Bodies are counted by what the workflow takes.
            .layer(DefaultBodyLimit::disable())
            .with_state(gateway.clone());
        Routes { gateway, router }
    }

    /// Answers one request.
    pub async fn answer(self, scope: Scope, peer: Peer, request: Request) -> Response {
        let (wants_json, method) = (wants_json(request.headers()), request.method().clone());
        let mut origin = None;
        let response = self.refuse_or_route(scope, peer, request, &mut origin).await;
        let mut response = response.unwrap_or_else(IntoResponse::into_response);
        if let Some(origin) = origin {
            access::allow_origin(response.headers_mut(), origin);
        }
        said(response, wants_json, &method)
    }

    /// `origin`: the page's that may read what is answered, whatever that is.
    async fn refuse_or_route(
        &self,
        scope: Scope,
        peer: Peer,
        mut request: Request,
        origin: &mut Option<HeaderValue>,
    ) -> Result<Response, Error> {
        let path = request.uri().path();
        let (name, rest) = match &scope {
            Scope::One(name) => (name.as_str(), path),
            Scope::All => {
                let inner = path.strip_prefix('/').unwrap_or(path);
                inner.find('/').map_or((inner, ""), |slash| inner.split_at(slash))
            }
        };
        let workflow = self.gateway.workflows.get(name).ok_or_else(|| match name {
            "" => Error::NotFound("this port serves each workflow below its name: /NAME/".into()),
            _ if !self.gateway.workflows.are_read() => {
                Error::Unavailable("this agent has just started; try again, or ask another".into())
            }
            _ => Error::NotFound("there is no workflow of this name here; `pipes ps -a` lists them".into()),
        })?;
        // From /words, jobs/j01/ would be /jobs/j01/.
        let base = if rest.is_empty() {
            format!("{name}/")
        } else {
            String::new()
        };
        let inner = inner_uri(request.uri(), rest)?;
        let headers = request.headers();
        access::check_head(request.version(), headers, peer.is_ambiguous())?;
        access::check_secure(&workflow, peer.is_secure())?;
        let cors = &workflow.definition.options.cors;
        let authority = request.uri().authority().map(|authority| authority.as_str());
        access::check_host(headers, authority, peer.local(), cors)?;
        *origin = access::check_origin(headers, peer.local(), cors)?;
        let is_open = request.method() == Method::OPTIONS || matches!(inner.path(), "/healthz" | "/readyz");
        let token_sha256 = access::token_sha256(headers);
        let shown = access::check_token(token_sha256.as_deref(), &workflow);
        // Of a listing its handler looks whether the token is an operator's.
        let is_listing = inner.path() == "/jobs" && matches!(*request.method(), Method::GET | Method::HEAD);
        let is_judged_later = is_listing && token_sha256.is_some();
        if !is_open && !is_judged_later {
            shown.clone()?;
        }
        let place = self.gateway.limits.enter(&workflow.name)?;
        *request.uri_mut() = inner;
        request.extensions_mut().insert(Asked {
            workflow,
            base,
            peer,
            has_token: shown.is_ok(),
            token_sha256,
        });
        let response = match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        Ok(response.map(|body| hold(body, place)))
    }
}

/// The path below the workflow, without its last slash, and the query.
fn inner_uri(uri: &Uri, rest: &str) -> Result<Uri, Error> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let rest = if rest.is_empty() { "/" } else { rest };
    let whole = match uri.query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    };
    let wrong = |_| Error::Usage("the path cannot be read".into());
    Ok(Uri::from(whole.parse::<PathAndQuery>().map_err(wrong)?))
}

/// Gives an error its sentence, and OPTIONS its answer.
fn said(mut response: Response, wants_json: bool, method: &Method) -> Response {
    let error = response.extensions_mut().remove::<Error>();
    if error.is_none() && response.status() != StatusCode::METHOD_NOT_ALLOWED {
        return response;
    }
    // Of no sentence at all.
    response.headers_mut().remove(CONTENT_LENGTH);
    if let Some(error) = error {
        let mut rendered = error.render(wants_json);
        rendered
            .headers_mut()
            .extend(std::mem::take(response.headers_mut()));
        return rendered;
    }
    let allowed = response.headers_mut().remove(ALLOW);
    let allowed = allowed.and_then(|allowed| {
        let text = format!("{},OPTIONS", allowed.to_str().ok()?).replace(',', ", ");
        HeaderValue::from_str(&text).ok()
    });
    let allowed = allowed.unwrap_or(HeaderValue::from_static("OPTIONS"));
    let mut said = match *method == Method::OPTIONS {
        true => StatusCode::NO_CONTENT.into_response(),
        false => {
            let listed = allowed.to_str().unwrap_or_default();
            let mut said = error::sentence(&format!("{method} is nothing to do here: {listed}"), wants_json);
            *said.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            said
        }
    };
    said.headers_mut().extend(std::mem::take(response.headers_mut()));
    if said.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        access::allow_requests(said.headers_mut(), allowed.clone());
    }
    said.headers_mut().insert(ALLOW, allowed);
    said
}

async fn unknown() -> Error {
    Error::NotFound(
        "there is nothing of this path: POST /, POST /pipe, GET /jobs/ID/, GET /jobs/ID/result".into(),
    )
}

async fn not_yet(Extension(asked): Extension<Asked>) -> Error {
    Error::NotFound(format!(
        "workflow {} has no page; POST a query here, or to pipe",
        asked.workflow.name
    ))
}
