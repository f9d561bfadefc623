//! Pages for mail programs and other hosts.
//!
//! ```text
//!  request --> Host and path --> route::Page --> certificate (core), policy, settings from the running listeners
//! ```
//!
//! What always holds: nobody logs in here and nothing is written; a page tells of a user only what a Web Key Directory must
//! (whether an address has a certificate); whatever is not a page of ours is 404 without a reason.

mod autodiscover;
mod pages;
mod route;

use crate::config::check::Checked;
use crate::config::http::{Announce, CheckedHttp};
use crate::exit::{Failure, trying};
use crate::serve::endpoints::{self, Endpoint};
use crate::serve::instance::Instance;
use crate::serve::web::{self, Answer, Places, Times, reply};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, HOST, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, StatusCode};
use mesyx_core::published::Published;
use mesyx_sdk::ServerTls;
pub(crate) use route::LABELS;
use route::Page;
use std::net::TcpListener as StdListener;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Most bytes of what a program may post: Outlook asks in some 400.
const MAX_POST: usize = 16 << 10;

/// What the pages are about; follows the configuration.
#[derive(Debug)]
pub(crate) struct Site {
    /// The host's own name.
    pub(crate) hostname: String,
    /// Our domains, in A-labels.
    pub(crate) domains: Vec<String>,
    /// What is served.
    pub(crate) http: CheckedHttp,
    /// The listeners for mail programs, as configured.
    endpoints: Vec<Endpoint>,
}

impl Site {
    /// What a configuration says.
    pub(crate) fn of(checked: &Checked) -> Self {
        let domains = checked.core.domains.iter().filter_map(|domain| domain.domain.as_name().map(str::to_owned));
        Self {
            hostname: checked.core.hostname.clone(),
            domains: domains.collect(),
            http: checked.http.clone(),
            endpoints: endpoints::configured(&checked.bridges),
        }
    }
}

/// The pages of a running instance.
struct Pages {
    instance: Arc<Instance>,
    published: Mutex<Option<Arc<Published>>>,
}

/// Serves the pages on listeners, with TLS or without, until the tasks are aborted.
pub(crate) fn serve(
    listeners: Vec<(StdListener, bool)>,
    instance: &Arc<Instance>,
) -> Result<Vec<JoinHandle<()>>, Failure> {
    let site = instance.site();
    let places = Places::new(site.http.connections, site.http.connections_per_ip);
    let tls = Arc::new(ServerTls::new(instance.certificates(), &[b"http/1.1"]));
    let pages = Arc::new(Pages { instance: Arc::clone(instance), published: Mutex::default() });
    let mut tasks = Vec::new();
    for (listener, with_tls) in listeners {
        let listener = TcpListener::from_std(listener).map_err(trying("a listener of http"))?;
        let (tls, places) = (with_tls.then(|| Arc::clone(&tls)), Arc::clone(&places));
        let (times, pages) = (Arc::clone(instance), Arc::clone(&pages));
        let times = move || {
            let site = times.site();
            Times { head: site.http.head, life: site.http.life }
        };
        let answer = move |request, name| Arc::clone(&pages).answer(request, name);
        tasks.push(tokio::spawn(web::serve(listener, "http", places, tls, times, answer)));
    }
    Ok(tasks)
}

impl Pages {
    async fn answer(self: Arc<Self>, request: Request<Incoming>, name: Option<Arc<str>>) -> Answer {
        let site = self.instance.site();
        let given = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        // What stands in the request line comes before the field (RFC 9112, section 3.2.2).
        let host = request.uri().host().or(given).or(name.as_deref()).unwrap_or_default();
        let page = route::route(host, request.uri().path(), request.uri().query(), &site);
        let label = page.as_ref().map_or("none", Page::label);
        let mut answer = match page {
            Some(page) => self.page(page, request, &site).await,
            None => absent(),
        };
        answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let code = answer.status().as_u16().to_string();
        metrics::counter!("mesyx_http_requests_total", "page" => label, "code" => code).increment(1);
        answer
    }

    async fn page(&self, page: Page, request: Request<Incoming>, site: &Site) -> Answer {
        let post = matches!(page, Page::Autodiscover);
        let allowed = match *request.method() {
            Method::POST => post,
            Method::GET | Method::HEAD => !post,
            _ => false,
        };
        if !allowed {
            let mut answer = reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "not in this way\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(if post { "POST" } else { "GET, HEAD" }));
            return answer;
        }
        match page {
            Page::Certificate { domain, hash } => match self.published().await.certificate(&domain, &hash) {
                Some(certificate) => open_to_all(reply(StatusCode::OK, "application/octet-stream", certificate)),
                None => open_to_all(absent()),
            },
            Page::DirectoryPolicy => {
                open_to_all(reply(StatusCode::OK, "text/plain; charset=utf-8", "# Web Key Directory of Mesyx\n"))
            }
            Page::MtaSts => match &site.http.policy {
                Some(policy) => reply(StatusCode::OK, "text/plain; charset=utf-8", policy.text.clone()),
                None => absent(),
            },
            Page::Autoconfig { domain } => {
                let text = pages::autoconfig(&domain, &self.servers(site));
                reply(StatusCode::OK, "text/xml; charset=utf-8", text)
            }
            Page::AppleProfile { address } => match pages::apple_profile(&address, &self.servers(site)) {
                Some(text) => {
                    let mut answer = reply(StatusCode::OK, "application/x-apple-aspen-config; charset=utf-8", text);
                    let name = HeaderValue::from_static("attachment; filename=\"mail.mobileconfig\"");
                    answer.headers_mut().insert(CONTENT_DISPOSITION, name);
                    answer
                }
                None => absent(),
            },
            Page::Autodiscover => {
                let Ok(body) = Limited::new(request.into_body(), MAX_POST).collect().await else {
                    return reply(StatusCode::PAYLOAD_TOO_LARGE, "text/plain", "at most 16 KiB are read here\n");
                };
                let text = match autodiscover::request(&body.to_bytes(), &site.domains) {
                    Ok(address) => pages::autodiscover(&address, &self.servers(site)),
                    Err(refusal) => refusal.answer(),
                };
                reply(StatusCode::OK, "text/xml; charset=utf-8", text)
            }
        }
    }

    /// Where mail programs reach us now.
    fn servers(&self, site: &Site) -> Vec<Announce> {
        let running = endpoints::running(&site.endpoints, &self.instance.supervisor().status());
        endpoints::servers(&running, &site.http.announce, &site.hostname, "localhost")
    }

    /// The certificates, gathered anew after users changed.
    async fn published(&self) -> Arc<Published> {
        let core = self.instance.core();
        let known = self.published.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known.filter(|known| known.is_current(core)) {
            return known;
        }
        let gathering = Arc::clone(core);
        let gathered = tokio::task::spawn_blocking(move || gathering.published()).await;
        let published = Arc::new(gathered.unwrap_or_else(|_| core.published()));
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&published));
        published
    }
}

/// The answer to whatever there is not.
fn absent() -> Answer {
    reply(StatusCode::NOT_FOUND, "text/plain", "not found\n")
}

/// Web pages of anybody may read it (draft-koch-openpgp-webkey-service, section 4.1). It may be kept for an hour.
fn open_to_all(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    if answer.status() == StatusCode::OK {
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    }
    answer
}
