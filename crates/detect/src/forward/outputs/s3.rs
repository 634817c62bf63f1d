//! S3 and what speaks like it: an object an alert, signed with AWS' signature version 4.
//!
//! The key is upstream's, `<prefix>/<date>/<time>.json`, but of the alert's own time and with its
//! uuid, so that two alerts of one event are two objects, and one that comes again is one.

use std::sync::Arc;

use jiff::Timestamp;
use ring::hmac;
use sha2::{Digest as _, Sha256};

use super::Destination;
use crate::forward::Alert;
use crate::forward::config::{ConfigError, Globals, Section};
use crate::forward::http::HttpOutput;
use crate::forward::request::Request;

/// Services of AWS that upstream sends to besides S3.
const OTHERS: [(&str, &str); 6] = [
    ("lambda", "functionname"),
    ("sqs", "url"),
    ("sns", "topicarn"),
    ("cloudwatchlogs", "loggroup"),
    ("securitylake", "bucket"),
    ("kinesis", "streamname"),
];

struct S3 {
    /// Scheme and authority, and the bucket if it is a part of the path.
    base: String,
    prefix: String,
    acl: String,
    region: String,
    access_key: String,
    secret_key: String,
    now: fn() -> Timestamp,
}

pub(super) fn read(
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    for (name, key) in OTHERS {
        let mut other = section.section(name)?;
        if other.text(key).is_ok_and(|value| value.is_some()) {
            notices.push(format!("{}: not supported, ignored", section.at(name)));
        }
    }
    section.ignore(&["rolearn", "externalid", "checkidentity"], notices);
    let access_key = section.header_text("accesskeyid")?;
    let secret_key = section.text("secretaccesskey")?;
    let region = section.header_text("region")?;
    let mut s3 = section.section("s3")?;
    let bucket = s3.text("bucket")?;
    let endpoint = s3.base_url("endpoint")?;
    let prefix = s3.text_or("prefix", "falco")?;
    let acl = s3.header_text("objectcannedacl")?;
    let minimum = s3.priority("minimumpriority")?;
    let tls = globals.tls(&mut s3)?;
    s3.finish(notices);
    let Some(bucket) = bucket else {
        return Ok(Vec::new());
    };
    let needed = "needed here: credentials are not asked of an instance's profile";
    let access_key = access_key.ok_or_else(|| section.bad("accesskeyid", needed))?;
    let secret_key = secret_key.ok_or_else(|| section.bad("secretaccesskey", needed))?;
    let region = region.ok_or_else(|| section.bad("region", "needed here"))?;
    let bucket = encode(&bucket);
    let base = match endpoint {
        Some(endpoint) => format!("{endpoint}/{bucket}"),
        // A dot in the name would not be covered by the certificate.
        None if bucket.contains('.') => format!("https://s3.{region}.amazonaws.com/{bucket}"),
        None => format!("https://{bucket}.s3.{region}.amazonaws.com"),
    };
    if reqwest::Url::parse(&base).is_err() {
        return Err(section.bad("s3", "bucket and region make no address"));
    }
    let output = S3 {
        base,
        prefix,
        acl: acl.unwrap_or_else(|| "bucket-owner-full-control".into()),
        region,
        access_key,
        secret_key,
        now: Timestamp::now,
    };
    Ok(vec![Destination::http("awss3", minimum, tls, output)])
}

impl HttpOutput for S3 {
    fn request(&self, alerts: &[Arc<Alert>]) -> Request {
        let Some(alert) = alerts.first() else {
            return Request::post(&self.base, Vec::new());
        };
        let body = alert.to_json();
        let name = format!(
            "{}/{}/{}-{}.json",
            self.prefix.trim_matches('/'),
            alert.time.strftime("%Y-%m-%d"),
            alert.time,
            alert.uuid
        );
        let path: Vec<String> = name.split('/').map(encode).collect();
        let url = format!("{}/{}", self.base, path.join("/"));
        let sum = base64_of(&crc32fast::hash(&body).to_be_bytes());
        let mut request = Request::post(url, body)
            .header("x-amz-acl", self.acl.as_str())
            .header("x-amz-checksum-crc32", sum);
        request.method = "PUT".into();
        self.sign(request, (self.now)())
    }
}

impl S3 {
    /// Adds the time, the hash of the body, and the signature over all headers.
    fn sign(&self, request: Request, now: Timestamp) -> Request {
        let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let day = now.strftime("%Y%m%d").to_string();
        let body_hash = hex::encode(Sha256::digest(&request.body));
        let request = request
            .header("x-amz-content-sha256", body_hash.as_str())
            .header("x-amz-date", time.as_str());
        let url = reqwest::Url::parse(&request.url).ok();
        let host = url.as_ref().map_or_else(String::new, |url| {
            let host = url.host_str().unwrap_or_default();
            url.port()
                .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
        });
        let path = url.as_ref().map_or("/", |url| url.path());
        let mut headers: Vec<(String, &str)> = request
            .headers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
            .collect();
        headers.push(("host".into(), &host));
        headers.sort();
        let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(";");
        let lines: String = headers
            .iter()
            .map(|(name, value)| format!("{name}:{value}\n"))
            .collect();
        let canonical = format!(
            "{}\n{path}\n\n{lines}\n{names}\n{body_hash}",
            request.method
        );
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let to_sign = format!(
            "AWS4-HMAC-SHA256\n{time}\n{scope}\n{}",
            hex::encode(Sha256::digest(canonical.as_bytes()))
        );
        let secret = format!("AWS4{}", self.secret_key);
        let key = [day.as_str(), &self.region, "s3", "aws4_request"]
            .iter()
            .fold(secret.into_bytes(), |key, part| mac(&key, part));
        let signature = hex::encode(mac(&key, &to_sign));
        let access_key = &self.access_key;
        request.header(
            "Authorization",
            format!(
                "AWS4-HMAC-SHA256 Credential={access_key}/{scope},SignedHeaders={names},\
                 Signature={signature}"
            ),
        )
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A part of a path as AWS encodes it.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3() -> S3 {
        S3 {
            base: "https://examplebucket.s3.amazonaws.com".into(),
            prefix: "falco".into(),
            acl: "private".into(),
            region: "us-east-1".into(),
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            now: || Timestamp::from_second(1_369_353_600).expect("a time"),
        }
    }

    /// The example of a PUT in AWS' documentation of the signature's calculation for S3.
    #[test]
    fn the_signature_is_that_of_the_documentation() {
        let s3 = s3();
        let request = Request {
            method: "PUT".into(),
            url: format!("{}/test%24file.text", s3.base),
            headers: vec![
                ("Date".into(), "Fri, 24 May 2013 00:00:00 GMT".into()),
                ("x-amz-storage-class".into(), "REDUCED_REDUNDANCY".into()),
            ],
            body: b"Welcome to Amazon S3.".to_vec(),
            gzip: false,
        };
        let signed = s3.sign(request, (s3.now)());
        let (_, authorization) = signed.headers.last().expect("a header");
        assert_eq!(
            authorization,
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class,\
             Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        );
    }

    #[test]
    fn an_alert_is_an_object() {
        let alert = Arc::new(crate::forward::outputs::tests::rich());
        let request = s3().request(std::slice::from_ref(&alert));
        assert_eq!(request.method, "PUT");
        assert_eq!(
            request.url,
            "https://examplebucket.s3.amazonaws.com/falco/2026-01-02/\
             2026-01-02T10%3A20%3A30.123456789Z-11111111-2222-4333-8444-555555555555.json"
        );
        assert_eq!(request.body, alert.to_json());
        let names: Vec<&str> = request
            .headers
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        let wanted = [
            "Content-Type",
            "x-amz-acl",
            "x-amz-checksum-crc32",
            "x-amz-content-sha256",
            "x-amz-date",
            "Authorization",
        ];
        assert_eq!(names, wanted);
    }
}
