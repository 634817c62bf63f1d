//! Protocols of their own, against the real servers where they are installed, and SMTP against one
//! that is written here. What is not installed is told of as skipped.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::work::{STOP, alert, names, options, start};
use crate::forward::Forwarder;
use crate::forward::outputs::rabbitmq::tests as rabbitmq;

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server, or tells that there is none. `{port}` and `{dir}` are filled in.
async fn server(program: &str, arguments: &str, directory: &Path) -> Option<(Process, u16)> {
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .ok()?
        .local_addr()
        .ok()?
        .port();
    let arguments = arguments
        .replace("{port}", &port.to_string())
        .replace("{dir}", &directory.display().to_string());
    let child = Command::new(program)
        .args(arguments.split(' '))
        .env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin")
        .current_dir(directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(child) = child else {
        eprintln!("skipped: {program} is not installed");
        return None;
    };
    let process = Process(child);
    for _ in 0..1000 {
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Some((process, port));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{program} does not listen on {port}");
}

async fn connect(port: u16) -> BufReader<TcpStream> {
    BufReader::new(
        TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("connected"),
    )
}

async fn send_all(forwarder: Forwarder, count: u32) {
    for name in names(0..count) {
        forwarder.send(alert(name));
    }
    assert_eq!(forwarder.stop(STOP).await, 0);
}

fn output(json: &[u8]) -> String {
    let alert: serde_json::Value = serde_json::from_slice(json).expect("JSON");
    alert["output"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_has_a_list_and_a_hash() {
    let temp = tempfile::tempdir().expect("a directory");
    let arguments =
        "--port {port} --bind 127.0.0.1 --dir {dir} --requirepass pw --save --appendonly no";
    let Some((_process, port)) = server(
        "redis-server",
        &arguments.replace("--save ", ""),
        temp.path(),
    )
    .await
    else {
        return;
    };
    let queues = temp.path().join("queues");
    let yaml = format!("redis: {{address: '127.0.0.1:{port}', password: pw, database: 3}}");
    send_all(start(&yaml, &options(&queues)), 30).await;
    let yaml =
        format!("redis: {{address: 'redis://:pw@127.0.0.1:{port}', storagetype: hashmap, key: h}}");
    send_all(start(&yaml, &options(&queues)), 3).await;
    let mut stream = connect(port).await;
    let commands = b"AUTH pw\r\nHLEN h\r\nSELECT 3\r\nLLEN falco\r\nLINDEX falco 29\r\n";
    stream.write_all(commands).await.expect("written");
    let mut lines = stream.lines();
    let mut next = async || lines.next_line().await.expect("read").expect("a line");
    // The three have the uuid of one alert.
    assert_eq!([next().await, next().await], ["+OK", ":1"]);
    assert_eq!([next().await, next().await], ["+OK", ":30"]);
    next().await;
    assert_eq!(output(next().await.as_bytes()), "29");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_has_a_message_an_alert() {
    let temp = tempfile::tempdir().expect("a directory");
    let arguments = "-a 127.0.0.1 -p {port} --user me --pass pw";
    let Some((_process, port)) = server("nats-server", arguments, temp.path()).await else {
        return;
    };
    let mut stream = connect(port).await;
    let hello =
        b"CONNECT {\"verbose\":false,\"user\":\"me\",\"pass\":\"pw\"}\r\nSUB falco.> 1\r\nPING\r\n";
    stream.write_all(hello).await.expect("written");
    let mut line = String::new();
    while line != "PONG\r\n" {
        line.clear();
        stream.read_line(&mut line).await.expect("read");
    }
    let yaml = format!("nats: {{hostport: 'nats://me:pw@127.0.0.1:{port}'}}");
    send_all(start(&yaml, &options(&temp.path().join("queues"))), 30).await;
    for name in names(0..30) {
        let mut lines = [String::new(), String::new()];
        for line in &mut lines {
            stream.read_line(line).await.expect("read");
        }
        assert!(
            lines[0].starts_with("MSG falco.critical.terminal_shell 1 "),
            "{}",
            lines[0]
        );
        assert_eq!(output(lines[1].as_bytes()), name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_has_a_message_an_alert_at_every_quality() {
    let temp = tempfile::tempdir().expect("a directory");
    let Some((_process, port)) = server("mosquitto", "-p {port}", temp.path()).await else {
        return;
    };
    for qos in 0..3 {
        let mut stream = connect(port).await;
        let topic = format!("t/{qos}");
        // CONNECT as "s", then SUBSCRIBE to the topic at quality 0.
        let mut bytes = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01s\x82\x08\0\x01\0\x03".to_vec();
        bytes.extend(topic.as_bytes());
        bytes.push(0);
        stream.write_all(&bytes).await.expect("written");
        let mut acknowledged = [0; 9];
        stream.read_exact(&mut acknowledged).await.expect("read");
        let yaml =
            format!("mqtt: {{broker: 'tcp://127.0.0.1:{port}', topic: {topic}, qos: {qos}}}");
        let queues = temp.path().join(format!("queues-{qos}"));
        send_all(start(&yaml, &options(&queues)), 50).await;
        for name in names(0..50) {
            assert_eq!(stream.read_u8().await.expect("read"), 0x30);
            let mut length = 0;
            for shift in [0, 7, 14] {
                let group = stream.read_u8().await.expect("read");
                length |= usize::from(group & 0x7f) << shift;
                if group & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.expect("read");
            assert_eq!(output(&body[5..]), name, "quality {qos}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_has_a_message_an_alert() {
    use std::os::unix::process::CommandExt as _;
    let temp = tempfile::tempdir().expect("a directory");
    let library = Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
    if !library.exists() {
        eprintln!("skipped: rabbitmq-server is not installed");
        return;
    }
    let free = async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("an address").port()
    };
    let (port, distribution) = (free().await, free().await);
    // Erlang's name server is ours, or the broker would start one that outlives the test.
    let Some((_names, names)) =
        server("epmd", "-port {port} -address 127.0.0.1", temp.path()).await
    else {
        return;
    };
    let log = std::fs::File::create(temp.path().join("log")).expect("a file");
    let command = || {
        let mut command = Command::new(library);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin")
            .env("HOME", temp.path())
            .env("RABBITMQ_NODENAME", format!("t{port}@localhost"))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", port.to_string())
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("RABBITMQ_MNESIA_BASE", temp.path().join("db"))
            .env("RABBITMQ_LOG_BASE", temp.path())
            .env("RABBITMQ_PID_FILE", temp.path().join("pid"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", temp.path().join("plugins"))
            .env("RABBITMQ_CONF_ENV_FILE", temp.path().join("none"))
            .env("ERL_EPMD_PORT", names.to_string())
            .process_group(0)
            .stdout(log.try_clone().expect("a file"))
            .stderr(log.try_clone().expect("a file"));
        command
    };
    let process = Group(command().spawn().expect("starts"));
    for _ in 0..3000 {
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let url = format!("amqp://guest:guest@127.0.0.1:{port}");
    let yaml = format!("rabbitmq: {{url: '{url}', queue: alerts}}");
    let forwarder = start(&yaml, &options(&temp.path().join("queues")));
    forwarder.send(alert("0"));
    // There is no such queue: the alert comes back, and stays with us until there is.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let metrics = forwarder.metrics();
    assert!(
        metrics.contains("outputs_queue_alerts{destination=\"rabbitmq\"} 1\n"),
        "{metrics}"
    );
    assert_eq!(rabbitmq::declare(&url, "alerts").await, 0);
    for name in super::work::names(1..30) {
        forwarder.send(alert(name));
    }
    assert_eq!(forwarder.stop(STOP).await, 0);
    assert_eq!(rabbitmq::declare(&url, "alerts").await, 30);
    for name in super::work::names(0..30) {
        assert_eq!(output(&rabbitmq::get(&url, "alerts").await), name);
    }
    drop(process);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_has_a_record_an_alert() {
    let temp = tempfile::tempdir().expect("a directory");
    // Debian has no broker, but kcat brings a mock of one, and consumes from it with the library
    // that others use.
    let arguments =
        "-C -u -b none -t falco -o beginning -X test.mock.num.brokers=3 -X check.crcs=true";
    let child = Command::new("/usr/bin/kcat")
        .args(arguments.split(' '))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: kcat is not installed");
        return;
    };
    let (output_of, told) = (child.stdout.take(), child.stderr.take());
    let _process = Process(child);
    let lines = |pipe| std::io::BufRead::lines(std::io::BufReader::new(pipe));
    let mut told = lines(Box::new(told.expect("piped")) as Box<dyn std::io::Read + Send>);
    let servers = told
        .find_map(|line| Some(line.ok()?.split_once("replaced with ")?.1.to_owned()))
        .expect("the mock's servers");
    // What else it says is read away, so that it never waits for us.
    std::thread::spawn(move || told.for_each(drop));
    let yaml = format!(
        "kafka: {{hostport: '{servers}', topic: falco, requiredacks: all, topiccreation: true}}"
    );
    send_all(start(&yaml, &options(&temp.path().join("queues"))), 30).await;
    let consumed: Vec<String> = lines(Box::new(output_of.expect("piped")))
        .take(30)
        .map(|line| output(line.expect("a line").as_bytes()))
        .collect();
    assert_eq!(consumed, names(0..30));
}

/// A process and all that it started.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.0.id()) {
            let group = nix::unistd::Pid::from_raw(group);
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        }
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_is_sent_an_alert() {
    let temp = tempfile::tempdir().expect("a directory");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let heard = Arc::new(Mutex::new(String::new()));
    let mails = heard.clone();
    let task = tokio::spawn(async move {
        let mut refusals = 1;
        while let Ok((stream, _)) = listener.accept().await {
            let (reader, mut writer) = stream.into_split();
            let mut lines = BufReader::new(reader).lines();
            let mut within = false;
            writer.write_all(b"220 hello\r\n").await.expect("written");
            while let Ok(Some(line)) = lines.next_line().await {
                mails
                    .lock()
                    .expect("no panic")
                    .push_str(&format!("{line}\n"));
                let answer = match line.as_str() {
                    "." => {
                        within = false;
                        "250 taken"
                    }
                    _ if within => continue,
                    "DATA" => {
                        within = true;
                        "354 go on"
                    }
                    "EHLO knarr" => "250-here\r\n250 AUTH PLAIN",
                    line if line.starts_with("RCPT") && refusals > 0 => {
                        refusals -= 1;
                        "451 later"
                    }
                    _ => "250 fine",
                };
                writer
                    .write_all(format!("{answer}\r\n").as_bytes())
                    .await
                    .expect("written");
            }
        }
    });
    let yaml = format!(
        "smtp: {{hostport: '127.0.0.1:{port}', tls: false, user: u, password: p, from: a@b, to: 'c@d, e@f'}}"
    );
    let forwarder = start(&yaml, &options(&temp.path().join("queues")));
    forwarder.send(alert("ä is <b>"));
    assert_eq!(forwarder.stop(STOP).await, 0);
    task.abort();
    let heard = heard.lock().expect("no panic").clone();
    let (_, second) = heard.split_at(heard.rfind("EHLO").expect("two tries"));
    expect_test::expect![[r#"
        EHLO knarr
        AUTH PLAIN AHUAcA==
        MAIL FROM:<a@b>
        RCPT TO:<c@d>
        RCPT TO:<e@f>
        DATA
        From: a@b
        To: c@d, e@f
        Subject: =?UTF-8?B?W0NyaXRpY2FsXSDDpCBpcyA8Yj4=?=
        Date: Fri, 02 Jan 2026 10:20:30 +0000
        Message-ID: <11111111222243338444555555555555@knarr>
        MIME-Version: 1.0
        Content-Type: multipart/alternative; boundary="=_knarr-alert"

        --=_knarr-alert
        Content-Type: text/plain; charset="UTF-8"
        Content-Transfer-Encoding: base64

        UHJpb3JpdHk6IENyaXRpY2FsCk91dHB1dDogw6QgaXMgPGI+ClJ1bGU6IFRlcm1pbmFsIHNoZWxs
        ClNvdXJjZTogc3lzY2FsbApIb3N0bmFtZTogbm9kZS0xClRhZ3M6IGNvbnRhaW5lciBzaGVsbApU
        aW1lOiAyMDI2LTAxLTAyIDEwOjIwOjMwLjEyMzQ1Njc4OSArMDAwMCBVVEMKCkZpZWxkcwpjb250
        YWluZXIuaWQ6IDAxMjM0NTY3ODlhYgpldnQubnVtOiA0MgpldnQucmVzOiA8bmlsPgprOHMubnMu
        bmFtZTogc2hvcAprOHMucG9kLm5hbWU6IHdlYi0wCnByb2MuYW5hbWVbMl06IHJ1bmMKcHJvYy5j
        bWRsaW5lOiBzaCAtYyAneCA+IC90bXAvw6QnIGFuZCBhIHRhaWwgb2Ygc29tZSBsZW5ndGgKdXNl
        ci5uYW1lOiByb290Cg==
        --=_knarr-alert
        Content-Type: text/html; charset="UTF-8"
        Content-Transfer-Encoding: base64

        PCFET0NUWVBFIGh0bWw+PGh0bWw+PGJvZHk+PHRhYmxlPjx0cj48dGg+UHJpb3JpdHk8L3RoPjx0
        ZD5Dcml0aWNhbDwvdGQ+PC90cj48dHI+PHRoPk91dHB1dDwvdGg+PHRkPsOkIGlzICZsdDtiJmd0
        OzwvdGQ+PC90cj48dHI+PHRoPlJ1bGU8L3RoPjx0ZD5UZXJtaW5hbCBzaGVsbDwvdGQ+PC90cj48
        dHI+PHRoPlNvdXJjZTwvdGg+PHRkPnN5c2NhbGw8L3RkPjwvdHI+PHRyPjx0aD5Ib3N0bmFtZTwv
        dGg+PHRkPm5vZGUtMTwvdGQ+PC90cj48dHI+PHRoPlRhZ3M8L3RoPjx0ZD5jb250YWluZXIgc2hl
        bGw8L3RkPjwvdHI+PHRyPjx0aD5UaW1lPC90aD48dGQ+MjAyNi0wMS0wMiAxMDoyMDozMC4xMjM0
        NTY3ODkgKzAwMDAgVVRDPC90ZD48L3RyPjwvdGFibGU+PGgzPkZpZWxkczwvaDM+PHRhYmxlPjx0
        cj48dGg+Y29udGFpbmVyLmlkPC90aD48dGQ+MDEyMzQ1Njc4OWFiPC90ZD48L3RyPjx0cj48dGg+
        ZXZ0Lm51bTwvdGg+PHRkPjQyPC90ZD48L3RyPjx0cj48dGg+ZXZ0LnJlczwvdGg+PHRkPiZsdDtu
        aWwmZ3Q7PC90ZD48L3RyPjx0cj48dGg+azhzLm5zLm5hbWU8L3RoPjx0ZD5zaG9wPC90ZD48L3Ry
        Pjx0cj48dGg+azhzLnBvZC5uYW1lPC90aD48dGQ+d2ViLTA8L3RkPjwvdHI+PHRyPjx0aD5wcm9j
        LmFuYW1lWzJdPC90aD48dGQ+cnVuYzwvdGQ+PC90cj48dHI+PHRoPnByb2MuY21kbGluZTwvdGg+
        PHRkPnNoIC1jICd4ICZndDsgL3RtcC/DpCcgYW5kIGEgdGFpbCBvZiBzb21lIGxlbmd0aDwvdGQ+
        PC90cj48dHI+PHRoPnVzZXIubmFtZTwvdGg+PHRkPnJvb3Q8L3RkPjwvdHI+PC90YWJsZT48L2Jv
        ZHk+PC9odG1sPg==
        --=_knarr-alert--
        .
    "#]]
    .assert_eq(second);
}
