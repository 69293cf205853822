//! Problem documents (RFC 9457): what REST answers when it has to say no.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use cladnet_proto::convert::FIELD;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tonic::{Code, Status};
use tonic_types::{FieldViolation, StatusExt as _};

use super::binding::Dialect;
use crate::error::RETRY_AFTER;

/// What is wrong, as REST says it.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) detail: String,
    /// The fields at fault; none if it is no field.
    pub(crate) faults: Vec<Fault>,
    /// The gRPC code behind it, for callers of cb-network's interface, who know grpc-gateway's error object.
    pub(crate) code: Option<Code>,
}

/// What is wrong with one field.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Fault {
    /// Its path, in JSON names.
    field: String,
    detail: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), faults: Vec::new(), code: None }
    }

    /// That the whole detail is about this field; an empty one is none.
    pub(crate) fn at_field(mut self, field: impl Into<String>) -> Self {
        let field = field.into();
        if field.is_empty() {
            return self;
        }
        let detail = self.detail.strip_prefix(&format!("{field}: ")).unwrap_or(&self.detail).to_owned();
        self.faults = vec![Fault { field, detail }];
        self
    }

    /// From an RPC's status. Fields are told in JSON names, as the caller wrote them.
    pub(crate) fn of_status(status: &Status, dialect: Dialect) -> Self {
        let fields: Vec<&str> =
            status.metadata().get_all(FIELD).iter().filter_map(|field| field.to_str().ok()).collect();
        let detail = fields.iter().fold(status.message().to_owned(), |detail, field| {
            detail.replacen(&format!("{field}: "), &format!("{}: ", json_name(field)), 1)
        });
        let code = (dialect == Dialect::Cbnet).then_some(status.code());
        let problem = Self { code, ..Self::new(http_status(status.code(), dialect), detail) };
        match (status.get_details_bad_request(), fields.first()) {
            (Some(request), _) if !request.field_violations.is_empty() => {
                let fault = |violation: FieldViolation| Fault {
                    field: json_name(&violation.field),
                    detail: violation.description,
                };
                Self { faults: request.field_violations.into_iter().map(fault).collect(), ..problem }
            }
            (_, Some(field)) => problem.at_field(json_name(field)),
            (_, None) => problem,
        }
    }

    /// The first field at fault; empty if it is no field.
    pub(crate) fn field(&self) -> &str {
        self.faults.first().map(|fault| fault.field.as_str()).unwrap_or_default()
    }

    /// As JSON, with the request's id.
    pub(crate) fn document(&self, request_id: &str) -> Value {
        let mut document = Map::from_iter([
            ("type".to_owned(), json!("about:blank")),
            ("title".to_owned(), json!(self.status.canonical_reason().unwrap_or("Error"))),
            ("status".to_owned(), json!(self.status.as_u16())),
            ("detail".to_owned(), json!(self.detail)),
            ("request_id".to_owned(), json!(request_id)),
        ]);
        if !self.faults.is_empty() {
            document.insert("field".to_owned(), json!(self.field()));
            document.insert("errors".to_owned(), json!(self.faults));
        }
        if let Some(code) = self.code {
            document.insert("code".to_owned(), json!(i32::from(code)));
            document.insert("message".to_owned(), json!(self.detail));
            document.insert("details".to_owned(), json!([]));
        }
        Value::Object(document)
    }

    /// As a response.
    pub(crate) fn response(&self, request_id: &str) -> Response {
        let mut response = Body::from(self.document(request_id).to_string()).into_response();
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER.as_secs()));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The HTTP status for a gRPC code. cb-network's callers get grpc-gateway's; ours tell a semantic fault (422) from a
/// request that cannot be read (400), and a conflict (409) from both.
fn http_status(code: Code, dialect: Dialect) -> StatusCode {
    match (code, dialect) {
        (Code::Ok, _) => StatusCode::OK,
        (Code::InvalidArgument, Dialect::Cladnet) => StatusCode::UNPROCESSABLE_ENTITY,
        (Code::FailedPrecondition, Dialect::Cladnet) => StatusCode::CONFLICT,
        (Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange, _) => StatusCode::BAD_REQUEST,
        (Code::NotFound, _) => StatusCode::NOT_FOUND,
        (Code::AlreadyExists | Code::Aborted, _) => StatusCode::CONFLICT,
        (Code::PermissionDenied, _) => StatusCode::FORBIDDEN,
        (Code::Unauthenticated, _) => StatusCode::UNAUTHORIZED,
        (Code::ResourceExhausted, _) => StatusCode::TOO_MANY_REQUESTS,
        (Code::Unimplemented, _) => StatusCode::NOT_IMPLEMENTED,
        (Code::Unavailable, _) => StatusCode::SERVICE_UNAVAILABLE,
        (Code::DeadlineExceeded, _) => StatusCode::GATEWAY_TIMEOUT,
        (Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss, _) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What a path begins with that leads into a document which the caller wrote.
const DOCUMENT: &str = "document.";

/// `outer_field.inner_field[2]` as `outerField.innerField[2]`, the way protoc derives JSON names; inside a document fields keep
/// the names that they have there.
fn json_name(field: &str) -> String {
    if field.starts_with(DOCUMENT) {
        return field.to_owned();
    }
    let mut name = String::with_capacity(field.len());
    let mut raise = false;
    for character in field.chars() {
        match character {
            '_' => raise = true,
            _ if raise => {
                name.extend(character.to_uppercase());
                raise = false;
            }
            _ => name.push(character),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use cladnet_proto::convert::FieldError;

    use super::*;
    use crate::error::CallError;

    #[test]
    fn a_field_is_told_in_its_json_name() {
        let mut status = Status::invalid_argument("ipv4_address_space: 8.8.8.0/24 is public");
        status.metadata_mut().insert(FIELD, "ipv4_address_space".parse().expect("is ASCII"));
        let document = Problem::of_status(&status, Dialect::Cladnet).document("r1");
        assert_eq!(document["field"], "ipv4AddressSpace");
        assert_eq!(document["detail"], "ipv4AddressSpace: 8.8.8.0/24 is public");
        assert_eq!(document["status"], 422);
        assert_eq!(document["request_id"], "r1");
        assert!(document.get("code").is_none());
    }

    #[test]
    fn a_field_of_a_document_keeps_its_name() {
        let faults = vec![FieldError::new("document.exchange_rates.EUR", "is wrong")];
        let document = Problem::of_status(&CallError::Invalid(faults).into(), Dialect::Cladnet).document("r1");
        assert_eq!(document["field"], "document.exchange_rates.EUR");
        assert_eq!(document["detail"], "document.exchange_rates.EUR: is wrong");
    }

    #[test]
    fn every_wrong_field_is_told_with_what_is_wrong_there() {
        let faults =
            vec![FieldError::new("hosts[0].user", "is empty"), FieldError::new("hosts[2].host_key", "is no key")];
        let document = Problem::of_status(&CallError::Invalid(faults).into(), Dialect::Cladnet).document("r1");
        assert_eq!(document["detail"], "hosts[0].user: is empty; hosts[2].hostKey: is no key");
        assert_eq!(document["field"], "hosts[0].user");
        let errors = json!([
            {"field": "hosts[0].user", "detail": "is empty"},
            {"field": "hosts[2].hostKey", "detail": "is no key"},
        ]);
        assert_eq!(document["errors"], errors);
    }

    #[test]
    fn what_is_about_no_field_names_none() {
        let document = Problem::new(StatusCode::BAD_REQUEST, "this is no JSON").at_field("").document("r1");
        assert!(document.get("field").is_none() && document.get("errors").is_none(), "{document}");
    }

    #[test]
    fn callers_of_cb_network_find_their_error_object_in_the_document() {
        let document = Problem::of_status(&Status::not_found("no network"), Dialect::Cbnet).document("r1");
        assert_eq!(document["code"], 5);
        assert_eq!(document["message"], "no network");
        assert_eq!(document["details"], json!([]));
        assert_eq!(document["status"], 404);
    }

    #[test]
    fn an_unavailable_service_says_when_to_try_again() {
        let response = Problem::of_status(&Status::unavailable("no quorum"), Dialect::Cladnet).response("r1");
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
}
