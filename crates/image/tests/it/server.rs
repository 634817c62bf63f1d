//! Registries: Debian's, and one written by hand that misbehaves on request.

use std::collections::HashMap;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use image::Digest;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use crate::build::Built;

/// A running `docker-registry`, which ends with this value.
pub(crate) struct DockerRegistry {
    pub(crate) host: String,
    child: Child,
    _dir: TempDir,
}

impl DockerRegistry {
    /// Starts one; with a user name and password it lets nobody else in.
    pub(crate) fn start(login: Option<(&str, &str)>) -> DockerRegistry {
        let dir = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            dir.path().join("data").display()
        );
        if let Some((user, password)) = login {
            let file = dir.path().join("htpasswd");
            let made = Command::new("htpasswd")
                .args(["-Bbc"])
                .arg(&file)
                .args([user, password])
                .output()
                .unwrap();
            assert!(
                made.status.success(),
                "htpasswd: {}",
                String::from_utf8_lossy(&made.stderr)
            );
            config += &format!(
                "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
                file.display()
            );
        }
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is needed for this test");
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                begin.elapsed() < Duration::from_secs(30),
                "docker-registry does not listen"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        DockerRegistry {
            host: format!("127.0.0.1:{port}"),
            child,
            _dir: dir,
        }
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What the hand-written registry does with a blob.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trick {
    /// Hangs up after so many bytes of each answer, so many times.
    HangUp { after: usize, times: usize },
    /// Knows nothing of ranges, and hangs up once.
    NoRanges { after: usize },
    /// Sends this slowly: one KiB each time, with this pause.
    Slow { pause: Duration },
}

/// A hand-written registry.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) host: String,
    state: Arc<Mutex<State>>,
    _task: Arc<Task>,
}

#[derive(Default)]
struct State {
    /// Answers by path below `/v2/`.
    answers: HashMap<String, (String, Vec<u8>)>,
    tricks: HashMap<String, Trick>,
    log: Vec<String>,
    sent_bytes: HashMap<String, usize>,
}

struct Task(tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Server {
    pub(crate) async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = shared.clone();
                tokio::spawn(async move { drop(serve(stream, state).await) });
            }
        });
        Server {
            host,
            state,
            _task: Arc::new(Task(task)),
        }
    }

    pub(crate) fn add(&self, path: &str, media_type: &str, bytes: &[u8]) {
        self.state
            .lock()
            .unwrap()
            .answers
            .insert(path.into(), (media_type.into(), bytes.to_vec()));
    }

    /// Offers an image as `repository:latest`.
    pub(crate) fn add_image(&self, repository: &str, image: &Built) {
        self.add(
            &format!("{repository}/manifests/latest"),
            "application/vnd.oci.image.manifest.v1+json",
            &image.manifest,
        );
        self.add_content(repository, image);
    }

    /// Offers what an image consists of, but no tag.
    pub(crate) fn add_content(&self, repository: &str, image: &Built) {
        let manifest = format!("{repository}/manifests/{}", Digest::of(&image.manifest));
        self.add(
            &manifest,
            "application/vnd.oci.image.manifest.v1+json",
            &image.manifest,
        );
        for blob in image
            .layers
            .iter()
            .map(|layer| &layer.bytes)
            .chain([&image.config])
        {
            self.add(
                &format!("{repository}/blobs/{}", Digest::of(blob)),
                "application/octet-stream",
                blob,
            );
        }
    }

    pub(crate) fn trick(&self, path: &str, trick: Option<Trick>) {
        let tricks = &mut self.state.lock().unwrap().tricks;
        match trick {
            Some(trick) => drop(tricks.insert(path.into(), trick)),
            None => drop(tricks.remove(path)),
        }
    }

    /// All requests so far, `GET path` with the range.
    pub(crate) fn log(&self) -> Vec<String> {
        self.state.lock().unwrap().log.clone()
    }

    /// Bytes of bodies that were sent for a path.
    pub(crate) fn sent(&self, path: &str) -> usize {
        self.state
            .lock()
            .unwrap()
            .sent_bytes
            .get(path)
            .copied()
            .unwrap_or_default()
    }
}

async fn serve(mut stream: tokio::net::TcpStream, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    loop {
        let (mut request, mut range) = (String::new(), None);
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                // TLS, which is answered as web servers do.
                Err(_) => {
                    return writer
                        .write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nplain HTTP only\n")
                        .await;
                }
            }
            if request.is_empty() {
                request = line.trim().into();
            }
            if let Some(value) = line.to_lowercase().strip_prefix("range: bytes=") {
                range = value.trim().trim_end_matches('-').parse::<usize>().ok();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut words = request.split(' ');
        let (method, url) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let path = url
            .trim_start_matches("/v2/")
            .split('?')
            .next()
            .unwrap_or_default()
            .to_string();
        let (answer, trick) = {
            let mut state = state.lock().unwrap();
            state.log.push(format!(
                "{method} {url}{}",
                range.map(|at| format!(" from {at}")).unwrap_or_default()
            ));
            let trick = state.tricks.get(&path).copied();
            if let Some(Trick::HangUp { times, .. }) = state.tricks.get_mut(&path) {
                *times = times.saturating_sub(1);
            }
            if let Some(Trick::NoRanges { after }) = trick
                && range.is_some()
            {
                state
                    .tricks
                    .insert(path.clone(), Trick::NoRanges { after: usize::MAX });
                assert_ne!(after, 0);
            }
            (state.answers.get(&path).cloned(), trick)
        };
        let Some((media_type, bytes)) = answer else {
            writer
                .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                .await?;
            continue;
        };
        let honours = !matches!(trick, Some(Trick::NoRanges { .. }));
        let start = range.filter(|_| honours).unwrap_or(0).min(bytes.len());
        let status = if start > 0 {
            "206 Partial Content"
        } else {
            "200 OK"
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\ndocker-content-digest: {}\r\ncontent-length: {}\r\n\r\n",
            Digest::of(&bytes),
            bytes.len() - start
        );
        writer.write_all(head.as_bytes()).await?;
        if method == "HEAD" {
            continue;
        }
        let body = &bytes[start..];
        let cut = match trick {
            Some(Trick::HangUp { after, times }) if times > 0 => after,
            Some(Trick::NoRanges { after }) => {
                if range.is_none() {
                    after
                } else {
                    usize::MAX
                }
            }
            _ => usize::MAX,
        };
        let body = &body[..cut.min(body.len())];
        for piece in body.chunks(1024) {
            writer.write_all(piece).await?;
            *state
                .lock()
                .unwrap()
                .sent_bytes
                .entry(path.clone())
                .or_default() += piece.len();
            if let Some(Trick::Slow { pause }) = trick {
                writer.flush().await?;
                tokio::time::sleep(pause).await;
            }
        }
        writer.flush().await?;
        if cut != usize::MAX {
            return Ok(());
        }
    }
}
