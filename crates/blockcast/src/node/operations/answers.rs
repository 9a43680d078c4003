// SPDX-License-Identifier: Apache-2.0
//! What the operations service answers, in the form of Fabric's own (semantics §5.3).

use block_api::ChannelId;
use deliver_service::Health;
use hyper::{
    Method, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use prometheus_client::registry::Registry;
use prost_types::Timestamp;
use serde::Serialize;

use crate::node::{metrics, view::View};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The answer of a check.
#[derive(Debug, Serialize)]
struct Checked {
    status: &'static str,
    time: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed_checks: Vec<FailedCheck>,
}

#[derive(Debug, Serialize)]
struct FailedCheck {
    component: String,
    reason: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    version: &'static str,
}

/// Answers a request for a path.
pub(super) fn answer(
    method: &Method,
    path: &str,
    view: &View,
    registry: &Registry,
) -> Response<String> {
    let asks: fn(&View, &Registry) -> Response<String> = match path {
        "/healthz" => |view, _| checked(view, is_well),
        "/readyz" => |view, _| checked(view, is_ready),
        "/metrics" => |_, registry| reply(StatusCode::OK, OPEN_METRICS, metrics::text(registry)),
        "/version" => |_, _| version(),
        _ => {
            return reply(
                StatusCode::NOT_FOUND,
                TEXT,
                "there is nothing here\n".to_owned(),
            );
        }
    };
    if method == Method::GET || method == Method::HEAD {
        return asks(view, registry);
    }
    let mut refused = reply(
        StatusCode::METHOD_NOT_ALLOWED,
        TEXT,
        "only GET and HEAD are answered\n".to_owned(),
    );
    refused
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    refused
}

/// The channels that fail a check, with the reason.
fn checked(view: &View, check: fn(&View, &Health) -> bool) -> Response<String> {
    let states = view.states();
    let failed = view.channels.keys().filter_map(|channel| {
        let reason = match states.get(channel) {
            Some(state) if check(view, &state.health) => return None,
            Some(state) => state.health.to_string(),
            None => "not-running: the channel has ended".to_owned(),
        };
        Some(FailedCheck {
            component: component(channel),
            reason,
        })
    });
    let failed_checks: Vec<_> = failed.collect();
    let code = match failed_checks.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let body = Checked {
        status: match failed_checks.is_empty() {
            true => "OK",
            false => "Service Unavailable",
        },
        time: Timestamp::from(view.now()).to_string(),
        failed_checks,
    };
    json(code, &body)
}

fn is_well(_: &View, health: &Health) -> bool {
    health.is_well()
}

fn is_ready(view: &View, health: &Health) -> bool {
    match health {
        Health::AtTip => true,
        Health::CatchingUp { blocks, .. } => *blocks <= view.ready_lag,
        Health::Connecting | Health::Stuck { .. } | _ => false,
    }
}

fn component(channel: &ChannelId) -> String {
    format!("channel/{channel}")
}

fn version() -> Response<String> {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
    };
    json(StatusCode::OK, &version)
}

fn json(code: StatusCode, body: &impl Serialize) -> Response<String> {
    // Structures of texts always become JSON.
    reply(code, JSON, serde_json::to_string(body).unwrap_or_default())
}

fn reply(code: StatusCode, kind: HeaderValue, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
