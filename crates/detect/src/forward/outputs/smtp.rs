//! SMTP: a mail an alert, as text and, unless `outputformat: text`, as HTML too.
//!
//! Bodies are base64, so that no line of an alert can be too long or end the mail; the texts are
//! ours, since upstream's are its templates. `smtps://` in front of `hostport` means TLS from the
//! start and is ours too.

use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::tz::TimeZone;
use tokio::io::AsyncWriteExt as _;

use super::{Common, Destination};
use crate::forward::Alert;
use crate::forward::alert::{cut, go_text};
use crate::forward::config::{ConfigError, Globals, Section};
use crate::forward::publish::{BatchLimits, Delivery, Failure, Pending};
use crate::forward::tls::TlsOptions;
use crate::forward::wire::{Protocol, Server, Stream, broken, quoted, read_line};

const BOUNDARY: &str = "=_knarr-alert";
const SUBJECT_CHARS: usize = 200;
/// The most lines of one answer.
const MOST_LINES: usize = 100;

struct Smtp {
    server: Server,
    start_tls: bool,
    tls: TlsOptions,
    auth: Option<String>,
    from: String,
    to: Vec<String>,
    html: bool,
}

pub(super) fn read(
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    let common = Common::read(section, globals, notices)?;
    let server = section.server(
        "hostport",
        &[("smtp://", 25, false), ("smtps://", 465, true)],
    )?;
    let start_tls = section.flag("tls", true)?;
    let auth = auth(section, server.as_ref())?;
    let from = section.text("from")?;
    let to = section.list("to")?;
    let html = section.choice("outputformat", &["html", "text"])? == "html";
    let Some(server) = server else {
        return Ok(Vec::new());
    };
    let from = from.ok_or_else(|| section.bad("from", "needed: the sender's address"))?;
    if to.is_empty() {
        return Err(section.bad("to", "needed: the addresses of those who are told"));
    }
    if let Some(address) = to
        .iter()
        .chain([&from])
        .find(|address| !is_address(address))
    {
        return Err(section.bad("to", &format!("{address:?} is no address of mail")));
    }
    let start_tls = start_tls && !server.tls;
    let smtp = Smtp {
        server,
        start_tls,
        tls: common.tls,
        auth,
        from,
        to,
        html,
    };
    Ok(vec![
        Destination::own("smtp", common.minimum, smtp).in_batches(BatchLimits::SINGLE),
    ])
}

/// The command that says who we are, by `authmechanism`.
fn auth(section: &mut Section, server: Option<&Server>) -> Result<Option<String>, ConfigError> {
    let choices = ["plain", "oauthbearer", "external", "anonymous", "none"];
    let mechanism = section.choice("authmechanism", &choices)?;
    let user = section.text_or("user", "")?;
    let password = section.text_or("password", "")?;
    let token = section.text_or("token", "")?;
    let identity = section.text_or("identity", "")?;
    let trace = section.text_or("trace", "")?;
    let (host, port) = server.map_or(("", 0), |server| (server.host.as_str(), server.port));
    let (name, initial) = match mechanism {
        // Without a name there is nothing to say.
        "plain" if user.is_empty() => return Ok(None),
        "plain" => ("PLAIN", format!("{identity}\0{user}\0{password}")),
        "oauthbearer" => (
            "OAUTHBEARER",
            format!("n,a={user},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01"),
        ),
        "external" => ("EXTERNAL", identity),
        "anonymous" => ("ANONYMOUS", trace),
        _ => return Ok(None),
    };
    let initial = if initial.is_empty() {
        "=".into()
    } else {
        STANDARD.encode(initial)
    };
    Ok(Some(format!("AUTH {name} {initial}")))
}

fn is_address(text: &str) -> bool {
    let plain = |c: char| !(c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | ','));
    text.contains('@') && text.chars().all(plain)
}

impl Smtp {
    fn mail(&self, alert: &Alert) -> String {
        let subject = cut(
            &format!("[{}] {}", alert.priority, alert.output),
            SUBJECT_CHARS,
        );
        let date = alert
            .time
            .to_zoned(TimeZone::UTC)
            .strftime("%a, %d %b %Y %H:%M:%S +0000");
        let id: String = alert
            .uuid
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(64)
            .collect();
        let mut mail = format!(
            "From: {}\r\nTo: {}\r\nSubject: {}\r\nDate: {date}\r\nMessage-ID: <{id}@knarr>\r\n\
             MIME-Version: 1.0\r\n",
            self.from,
            self.to.join(", "),
            encoded_words(&subject),
        );
        if !self.html {
            part(&mut mail, "text/plain", &plain_text(alert));
            return mail;
        }
        let _ = write!(
            mail,
            "Content-Type: multipart/alternative; boundary=\"{BOUNDARY}\"\r\n\r\n--{BOUNDARY}\r\n"
        );
        part(&mut mail, "text/plain", &plain_text(alert));
        let _ = write!(mail, "--{BOUNDARY}\r\n");
        part(&mut mail, "text/html", &html(alert));
        let _ = write!(mail, "--{BOUNDARY}--\r\n");
        mail
    }

    async fn hello(&self) -> Result<Stream, Failure> {
        let tls = self.server.tls.then_some(&self.tls);
        let mut stream = self.server.connect(tls).await?;
        accepted(&mut stream, "greeting").await?;
        command(&mut stream, "EHLO knarr").await?;
        if self.start_tls {
            command(&mut stream, "STARTTLS").await?;
            stream = self.server.encrypt(stream, &self.tls).await?;
            command(&mut stream, "EHLO knarr").await?;
        }
        if let Some(auth) = &self.auth {
            // Whoever we are may be let in later, when somebody has set it right.
            command(&mut stream, auth)
                .await
                .map_err(|failure| match failure {
                    Failure::Never { reason, .. } => Failure::later(reason),
                    later => later,
                })?;
        }
        Ok(stream)
    }

    /// Gives what was said against some of the recipients, if not against all.
    async fn deliver(&self, stream: &mut Stream, alert: &Alert) -> Result<Option<String>, Failure> {
        command(stream, &format!("MAIL FROM:<{}>", self.from)).await?;
        let (mut told, mut against) = (0, None);
        for to in &self.to {
            match command(stream, &format!("RCPT TO:<{to}>")).await {
                Ok(()) => told += 1,
                Err(Failure::Never { reason, .. }) => against = Some(reason),
                Err(later) => return Err(later),
            }
        }
        if told == 0 {
            return Err(Failure::never(against.unwrap_or_default()));
        }
        command(stream, "DATA").await?;
        // No line begins with a dot: they are headers, base64 or boundaries.
        let mail = format!("{}.\r\n", self.mail(alert));
        stream.write_all(mail.as_bytes()).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        accepted(stream, "mail").await?;
        Ok(against)
    }
}

fn part(mail: &mut String, kind: &str, content: &str) {
    let _ = write!(
        mail,
        "Content-Type: {kind}; charset=\"UTF-8\"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    );
    // 57 bytes make a line of 76 characters.
    for line in content.as_bytes().chunks(57) {
        let _ = write!(mail, "{}\r\n", STANDARD.encode(line));
    }
}

/// Plain ASCII as it is, everything else in words of RFC 2047.
fn encoded_words(text: &str) -> String {
    if text.chars().all(|c| matches!(c, ' '..='~')) && !text.contains("=?") {
        return text.into();
    }
    let mut words = vec![String::new()];
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if words
            .last()
            .is_some_and(|word| word.len() + c.len_utf8() > 45)
        {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(c);
        }
    }
    let words: Vec<String> = words
        .iter()
        .map(|word| format!("=?UTF-8?B?{}?=", STANDARD.encode(word)))
        .collect();
    words.join("\r\n ")
}

fn lines(alert: &Alert) -> [(&'static str, String); 7] {
    [
        ("Priority", alert.priority.to_string()),
        ("Output", alert.output.clone()),
        ("Rule", alert.rule.clone()),
        ("Source", alert.source.clone()),
        ("Hostname", alert.hostname.clone()),
        ("Tags", alert.tags.join(" ")),
        ("Time", alert.go_time()),
    ]
}

fn plain_text(alert: &Alert) -> String {
    let mut text = String::new();
    for (name, value) in lines(alert) {
        let _ = writeln!(text, "{name}: {value}");
    }
    text.push_str("\nFields\n");
    for (name, value) in &alert.output_fields {
        let _ = writeln!(text, "{name}: {}", go_text(value));
    }
    text
}

fn html(alert: &Alert) -> String {
    let mut text = String::from("<!DOCTYPE html><html><body><table>");
    for (name, value) in lines(alert) {
        let _ = write!(text, "<tr><th>{name}</th><td>{}</td></tr>", escape(&value));
    }
    text.push_str("</table><h3>Fields</h3><table>");
    for (name, value) in &alert.output_fields {
        let (name, value) = (escape(name), escape(&go_text(value)));
        let _ = write!(text, "<tr><th>{name}</th><td>{value}</td></tr>");
    }
    text.push_str("</table></body></html>");
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

async fn command(stream: &mut Stream, line: &str) -> Result<(), Failure> {
    stream
        .write_all(format!("{line}\r\n").as_bytes())
        .await
        .map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    // What is said of a failure names the command and no secret.
    accepted(stream, line.split([' ', ':']).next().unwrap_or_default()).await
}

/// An answer that lets us go on. 4yz may pass, 5yz will not.
async fn accepted(stream: &mut Stream, what: &str) -> Result<(), Failure> {
    for _ in 0..MOST_LINES {
        let line = read_line(stream).await?;
        if line.as_bytes().get(3) == Some(&b'-') {
            continue;
        }
        let reason = format!("{what} is answered with {}", quoted(&line));
        return match line.as_bytes().first() {
            Some(b'2' | b'3') => Ok(()),
            Some(b'5') => Err(Failure::never(reason)),
            _ => Err(Failure::later(reason)),
        };
    }
    Err(Failure::later("the server does not speak SMTP"))
}

impl Protocol for Smtp {
    fn open(&self) -> Pending<'_, Result<Stream, Failure>> {
        Box::pin(self.hello())
    }

    fn send<'a>(
        &'a self,
        stream: &'a mut Stream,
        alerts: &'a [Arc<Alert>],
    ) -> Pending<'a, Result<Delivery, Failure>> {
        Box::pin(async move {
            let mut delivery = Delivery::default();
            for alert in alerts {
                delivery.reason = self.deliver(stream, alert).await?.or(delivery.reason);
            }
            Ok(delivery)
        })
    }
}
