//! OpenTelemetry: sends the spans of a run to a collector over OTLP, as the `OTEL_*` variables say.
//!
//! Spans are sent once, when an engine stops, and for at most [`EXPORT_LIMIT`]: a collector that is down costs a run
//! nothing while it works. Nothing is exported from a thread of its own (decisions/060), so that there is no
//! `block_on` without a reactor (opentelemetry-rust#2673).

use std::borrow::Cow;
use std::env;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    SdkTracer, SdkTracerProvider, Span, SpanData, SpanEvents, SpanExporter as _, SpanLinks, SpanProcessor,
};
use rke2flow_engine::report::SpanOutcome;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::trace::{Told, TraceValue};

/// How long a run waits for the collector when it ends.
pub const EXPORT_LIMIT: Duration = Duration::from_secs(2);

/// Spans of the process itself that are kept until the end; later ones are dropped.
const GATHERED_MAX: usize = 10_000;

/// Spans in one request.
const BATCH: usize = 512;

/// Bytes that are read of a collector's answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Whether the environment asks for traces.
pub fn is_wanted() -> bool {
    let endpoint = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
    let off = env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"))
        || env::var("OTEL_TRACES_EXPORTER").is_ok_and(|value| value == "none");
    !off && endpoint.iter().any(|name| env::var(name).is_ok_and(|value| !value.is_empty()))
}

/// The `TRACEPARENT` of whoever started this process, when it is one.
pub fn trace_parent() -> Option<String> {
    env::var("TRACEPARENT").ok().filter(|value| parse_parent(value).is_some())
}

/// The layer that turns spans of this process (`tracing`) into spans of the run's trace; `None` when nobody asks.
pub fn layer<S>() -> Option<impl Layer<S>>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    let tracer = is_wanted().then(|| Gathered::of_process().tracer.clone())?;
    Some(tracing_opentelemetry::layer().with_tracer(tracer))
}

/// Makes a span of this process a part of the run's trace.
pub fn attach(span: &tracing::Span, told: &Told) {
    let (trace, id) = (TraceId::from_bytes(told.span.trace_id), SpanId::from_bytes(told.span.span_id));
    let run = SpanContext::new(trace, id, TraceFlags::SAMPLED, true, TraceState::NONE);
    // Fails only when no OpenTelemetry layer is there: then there is nothing to attach to.
    let _ = span.set_parent(Context::new().with_remote_span_context(run));
}

/// Sends spans, and what the process itself gathered. Returns within [`EXPORT_LIMIT`]; what could not be sent is
/// logged and lost. `parent` is the caller's `TRACEPARENT`.
pub async fn export(parent: Option<&str>, told: Vec<Told>) {
    if !is_wanted() {
        return;
    }
    let caller = parent.and_then(parse_parent).map(|(_, caller)| caller);
    let mut all: Vec<SpanData> = told.into_iter().map(|told| data(told, caller)).collect();
    all.append(&mut Gathered::of_process().take());
    match tokio::time::timeout(EXPORT_LIMIT, send(all)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("cannot export traces: {error}"),
        Err(_) => tracing::warn!("cannot export traces: no answer within {} s", EXPORT_LIMIT.as_secs()),
    }
}

async fn send(mut spans: Vec<SpanData>) -> Result<(), String> {
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(Collector::new())
        .with_timeout(EXPORT_LIMIT)
        .build()
        .map_err(|error| error.to_string())?;
    exporter.set_resource(&resource());
    while !spans.is_empty() {
        let rest = spans.split_off(spans.len().min(BATCH));
        exporter.export(spans).await.map_err(|error| error.to_string())?;
        spans = rest;
    }
    Ok(())
}

fn resource() -> Resource {
    let named = env::var_os("OTEL_SERVICE_NAME").is_some()
        || env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|value| value.contains("service.name="));
    let builder = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if named { builder.build() } else { builder.with_service_name("rke2flow").build() }
}

fn data(told: Told, caller: Option<SpanId>) -> SpanData {
    let span = told.span;
    let own = SpanContext::new(
        TraceId::from_bytes(span.trace_id),
        SpanId::from_bytes(span.span_id),
        TraceFlags::SAMPLED,
        false,
        TraceState::NONE,
    );
    let is_root = span.parent.is_none();
    SpanData {
        span_context: own,
        parent_span_id: span.parent.map(SpanId::from_bytes).or(caller).unwrap_or(SpanId::INVALID),
        parent_span_is_remote: is_root && caller.is_some(),
        span_kind: if is_root { SpanKind::Server } else { SpanKind::Internal },
        name: Cow::Owned(told.title),
        start_time: SystemTime::from(span.start),
        end_time: SystemTime::from(span.end),
        attributes: told.attributes.into_iter().map(attribute).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: match span.outcome {
            SpanOutcome::Done | SpanOutcome::Skipped => Status::Ok,
            SpanOutcome::Failed(why) => Status::error(why),
            SpanOutcome::Open => Status::Unset,
        },
        instrumentation_scope: InstrumentationScope::builder("rke2flow")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

fn attribute((name, value): (&'static str, TraceValue)) -> KeyValue {
    match value {
        TraceValue::Text(text) => KeyValue::new(name, text),
        TraceValue::Number(number) => KeyValue::new(name, number),
        TraceValue::Flag(flag) => KeyValue::new(name, flag),
    }
}

/// `00-<32 hex>-<16 hex>-<2 hex>` (W3C Trace Context), neither id all zeros.
fn parse_parent(text: &str) -> Option<(TraceId, SpanId)> {
    let mut parts = text.trim().split('-');
    let (version, trace, span, _flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version.len() != 2 || version == "ff" || trace.len() != 32 || span.len() != 16 {
        return None;
    }
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    (trace != TraceId::INVALID && span != SpanId::INVALID).then_some((trace, span))
}

/// Spans of this process that have ended, kept until they are sent.
#[derive(Debug)]
struct Gathered {
    tracer: SdkTracer,
    spans: Arc<Mutex<Vec<SpanData>>>,
}

impl Gathered {
    fn of_process() -> &'static Self {
        static PROCESS: OnceLock<Gathered> = OnceLock::new();
        PROCESS.get_or_init(|| {
            let spans = Arc::new(Mutex::new(Vec::new()));
            let provider =
                SdkTracerProvider::builder().with_span_processor(Gatherer { spans: Arc::clone(&spans) }).build();
            Gathered { tracer: provider.tracer("rke2flow"), spans }
        })
    }

    fn take(&self) -> Vec<SpanData> {
        self.spans.lock().map(|mut spans| std::mem::take(&mut *spans)).unwrap_or_default()
    }
}

#[derive(Debug)]
struct Gatherer {
    spans: Arc<Mutex<Vec<SpanData>>>,
}

impl SpanProcessor for Gatherer {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if let Ok(mut spans) = self.spans.lock()
            && spans.len() < GATHERED_MAX
        {
            spans.push(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// HTTP to the collector, with the system's certificates.
#[derive(Debug)]
struct Collector(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Collector {
    fn new() -> Self {
        let builder = hyper_rustls::HttpsConnectorBuilder::new();
        // Without any system certificate, plain http still works and https fails with its own words.
        let builder = match builder.with_native_roots() {
            Ok(builder) => builder,
            Err(_) => {
                let empty = rustls::ClientConfig::builder()
                    .with_root_certificates(rustls::RootCertStore::empty())
                    .with_no_client_auth();
                hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(empty)
            }
        };
        Self(Client::builder(TokioExecutor::new()).build(builder.https_or_http().enable_http1().build()))
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let response = self.0.request(Request::from_parts(parts, Full::new(body))).await?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
        Ok(Response::from_parts(parts, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_trace_parent_is_taken_only_when_it_is_one() {
        assert!(parse_parent(PARENT).is_some());
        let zeros = format!("00-{}-b7ad6b7169203331-01", "0".repeat(32));
        for bad in ["", "00-abc-def-01", &zeros, "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"] {
            assert!(parse_parent(bad).is_none(), "{bad:?} was taken");
        }
    }
}
