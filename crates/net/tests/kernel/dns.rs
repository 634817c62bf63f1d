//! DNS over real sockets, as a pod asks.

use crate::api::{Api, NAMESPACES};
use crate::host::{Host, Netns, on_host, pod};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use net::dns::Server;
use serde_json::json;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const SERVER: &str = "10.43.0.10:53";

/// How to ask.
#[derive(Clone, Copy, PartialEq)]
enum Over {
    Udp,
    /// With room for an answer of so many bytes.
    Edns(u16),
    Tcp,
}

fn question(name: &str, kind: RecordType, over: Over) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message
        .queries
        .push(Query::query(Name::from_ascii(name).unwrap(), kind));
    if let Over::Edns(size) = over {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        message.edns = Some(edns);
    }
    message
}

fn ask(from: &Netns, name: &str, kind: RecordType, over: Over) -> Message {
    let bytes = question(name, kind, over).to_vec().unwrap();
    let answer = from.run(|| {
        if over == Over::Tcp {
            tcp(&bytes)
        } else {
            udp(&bytes)
        }
    });
    if let Over::Edns(size) = over {
        assert!(answer.len() <= usize::from(size));
    }
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!(answer.metadata.id, 4711);
    let asked = &answer.queries[0].name;
    assert!(
        asked.eq_case(&Name::from_ascii(name).unwrap()),
        "the question comes back letter by letter"
    );
    answer
}

fn udp(bytes: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(8)))
        .unwrap();
    socket.connect(SERVER).unwrap();
    socket.send(bytes).unwrap();
    let mut answer = [0; 4096];
    let length = socket.recv(&mut answer).unwrap();
    answer[..length].to_vec()
}

fn tcp(bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(SERVER).unwrap();
    stream
        .write_all(&u16::try_from(bytes.len()).unwrap().to_be_bytes())
        .unwrap();
    stream.write_all(bytes).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    answer
}

/// The answer on one line: code, records sorted, additional records.
fn line(message: &Message) -> String {
    let text = |records: &[Record]| {
        let mut all: Vec<String> = records.iter().map(|r| r.data.to_string()).collect();
        all.sort();
        all.join(" | ")
    };
    let code = match message.metadata.response_code {
        ResponseCode::NoError => "ok".to_owned(),
        code => format!("{code:?}"),
    };
    let mut line = format!("{code}: {}", text(&message.answers));
    if !message.additionals.is_empty() {
        line.push_str(&format!(" + {}", text(&message.additionals)));
    }
    line.trim_end().trim_end_matches(':').to_owned()
}

/// A nameserver outside: everything below `example.` is 203.0.113.9, an alias leads there.
fn outside_server(netns: &Netns) {
    let answer = |bytes: &[u8]| {
        let request = Message::from_vec(bytes).unwrap();
        let query = request.queries[0].clone();
        let mut response = Message::response(request.metadata.id, OpCode::Query);
        response.queries.push(query.clone());
        let record = |name: Name, data| Record::from_rdata(name, 60, data);
        let name = query.name.to_ascii().to_ascii_lowercase();
        if name == "silent.example." {
            return None;
        }
        if name == "www.example." {
            let target = Name::from_ascii("web.example.").unwrap();
            response
                .answers
                .push(record(query.name, RData::CNAME(CNAME(target.clone()))));
            response
                .answers
                .push(record(target, RData::A(A::new(203, 0, 113, 9))));
        } else if name.ends_with(".example.") {
            response
                .answers
                .push(record(query.name, RData::A(A::new(203, 0, 113, 9))));
        } else {
            response.metadata.response_code = ResponseCode::NXDomain;
        }
        Some(response.to_vec().unwrap())
    };
    let (socket, listener) = netns.run(|| {
        (
            UdpSocket::bind("192.0.2.1:53").unwrap(),
            TcpListener::bind("192.0.2.1:53").unwrap(),
        )
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            if let Some(bytes) = answer(&buffer[..length]) {
                let _ = socket.send_to(&bytes, peer);
            }
        }
    });
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut bytes).unwrap();
            let bytes = answer(&bytes).unwrap();
            stream
                .write_all(&u16::try_from(bytes.len()).unwrap().to_be_bytes())
                .unwrap();
            stream.write_all(&bytes).unwrap();
        }
    });
}

fn objects(api: &Api) {
    api.put(NAMESPACES, json!({ "metadata": { "name": "ns" } }));
    api.put(NAMESPACES, json!({ "metadata": { "name": "empty" } }));
    let ports =
        json!([{ "name": "http", "port": 80 }, { "name": "dns", "port": 53, "protocol": "UDP" }]);
    api.service("web", json!({ "clusterIP": "10.43.0.5", "ports": ports }));
    api.slice("web", &["http:8080"], &["10.42.0.20"]);
    api.service(
        "db",
        json!({ "clusterIP": "None", "ports": [{ "name": "pg", "port": 5432 }] }),
    );
    api.slice(
        "db",
        &["pg:5432"],
        &[
            "10.42.0.31/db-0",
            "10.42.0.32/db-1",
            "10.42.0.33!",
            "10.42.0.34",
        ],
    );
    api.service(
        "early",
        json!({ "clusterIP": "None", "publishNotReadyAddresses": true }),
    );
    api.slice("early", &[], &["10.42.0.40!"]);
    api.service("bare", json!({ "clusterIP": "None" }));
    api.service(
        "out",
        json!({ "type": "ExternalName", "externalName": "www.example" }),
    );
    api.service(
        "in",
        json!({ "type": "ExternalName", "externalName": "web.ns.svc.cluster.local" }),
    );
    api.service(
        "loop",
        json!({ "type": "ExternalName", "externalName": "loop.ns.svc.cluster.local" }),
    );
    api.service("many", json!({ "clusterIP": "None" }));
    let many: Vec<String> = (1..=200).map(|i| format!("10.42.9.{i}")).collect();
    api.slice(
        "many",
        &[":80"],
        &many.iter().map(String::as_str).collect::<Vec<_>>(),
    );
}

/// Runs `test` with a pod that asks.
fn served(test: impl AsyncFnOnce(&Host, &Api, &Netns) + Send) {
    on_host(|host| async move {
        let net = host.open().await;
        let (client, _) = pod(&net, "client").await;
        outside_server(&host.outside);
        let api = Api::default();
        objects(&api);
        let drain = CancellationToken::new();
        // A thread of its own, so that the test can block on its sockets.
        let (informers, stop, net) = (api.clone(), drain.clone(), net.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let server = Server::bind(&net).await.unwrap();
                let informers = informers.informers(&stop);
                server.run(informers, stop).await;
            });
        });
        let start = Instant::now();
        while client.run(|| TcpStream::connect(SERVER).is_err()) {
            assert!(start.elapsed() < Duration::from_secs(10));
        }
        while ask(
            &client,
            "web.ns.svc.cluster.local.",
            RecordType::A,
            Over::Udp,
        )
        .metadata
        .response_code
            == ResponseCode::ServFail
        {
            assert!(start.elapsed() < Duration::from_secs(10));
        }
        test(&host, &api, &client).await;
        drain.cancel();
        thread.join().unwrap();
    });
}

#[test]
fn names_of_the_cluster() {
    served(async |host, _, client| {
        use RecordType::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
        let zone = "cluster.local.";
        for (name, kind, expected) in [
            ("web.ns.svc.", A, "ok: 10.43.0.5"),
            ("WeB.nS.sVc.", A, "ok: 10.43.0.5"),
            ("web.ns.svc.", AAAA, "ok"),
            (
                "web.ns.svc.",
                SRV,
                "ok: 0 50 53 web.ns.svc.cluster.local. | 0 50 80 web.ns.svc.cluster.local. + 10.43.0.5",
            ),
            (
                "_http._tcp.web.ns.svc.",
                SRV,
                "ok: 0 100 80 web.ns.svc.cluster.local. + 10.43.0.5",
            ),
            ("_http._tcp.web.ns.svc.", A, "ok"),
            ("_http._udp.web.ns.svc.", SRV, "NXDomain"),
            ("10-42-0-20.web.ns.svc.", A, "ok: 10.42.0.20"),
            ("nope.ns.svc.", A, "NXDomain"),
            ("web.nope.svc.", A, "NXDomain"),
            ("web.ns.svc.cluster.local.ns.svc.", A, "NXDomain"),
            ("ns.svc.", A, "ok"),
            ("empty.svc.", A, "ok"),
            ("nope.svc.", A, "NXDomain"),
            ("svc.", A, "ok"),
            ("db.ns.svc.", A, "ok: 10.42.0.31 | 10.42.0.32 | 10.42.0.34"),
            ("db-1.db.ns.svc.", A, "ok: 10.42.0.32"),
            ("10-42-0-34.db.ns.svc.", A, "ok: 10.42.0.34"),
            ("10-42-0-33.db.ns.svc.", A, "NXDomain"),
            (
                "_pg._tcp.db.ns.svc.",
                SRV,
                "ok: 0 33 5432 10-42-0-34.db.ns.svc.cluster.local. | 0 33 5432 db-0.db.ns.svc.cluster.local. | 0 33 5432 db-1.db.ns.svc.cluster.local. + 10.42.0.31 | 10.42.0.32 | 10.42.0.34",
            ),
            ("early.ns.svc.", A, "ok: 10.42.0.40"),
            ("bare.ns.svc.", A, "NXDomain"),
            ("10-1-2-3.ns.pod.", A, "ok: 10.1.2.3"),
            ("10-1-2-3.ns.pod.", AAAA, "ok"),
            ("10-1-2-3.nope.pod.", A, "NXDomain"),
            ("zehn.ns.pod.", A, "NXDomain"),
            ("out.ns.svc.", CNAME, "ok: www.example."),
            (
                "out.ns.svc.",
                A,
                "ok: 203.0.113.9 | web.example. | www.example.",
            ),
            ("in.ns.svc.", A, "ok: 10.43.0.5 | web.ns.svc.cluster.local."),
            ("in.ns.svc.", AAAA, "ok: web.ns.svc.cluster.local."),
            ("loop.ns.svc.", A, "ServFail"),
            ("ns.dns.", A, "ok: 10.43.0.10"),
            ("dns-version.", TXT, "ok: 1.1.0"),
            ("", NS, "ok: ns.dns.cluster.local. + 10.43.0.10"),
            ("", A, "ok"),
        ] {
            let full = format!("{name}{zone}");
            for over in [Over::Udp, Over::Tcp] {
                let answer = ask(client, &full, kind, over);
                assert_eq!(line(&answer), expected, "{full} {kind}");
                let found = answer.answers.iter().any(|r| r.record_type() == kind);
                let negative = !found && expected != "ServFail";
                assert_eq!(
                    answer.authorities.len(),
                    usize::from(negative),
                    "{full} {kind}"
                );
                assert!(expected == "ServFail" || answer.metadata.authoritative);
                assert!(answer.answers.iter().all(|r| r.ttl <= 60));
            }
        }
        for (ip, expected) in [
            ("5.0.43.10", "ok: web.ns.svc.cluster.local."),
            ("32.0.42.10", "ok: db-1.db.ns.svc.cluster.local."),
            ("10.0.43.10", "ok: ns.dns.cluster.local."),
            ("99.0.42.10", "NXDomain"),
            ("1.2.0.192", "NXDomain"),
        ] {
            let name = format!("{ip}.in-addr.arpa.");
            assert_eq!(
                line(&ask(client, &name, PTR, Over::Udp)),
                expected,
                "{name}"
            );
        }
        let soa = ask(client, zone, SOA, Over::Udp);
        assert_eq!((soa.answers.len(), soa.answers[0].ttl), (1, 5));
        // Pods of the host's network and the host itself ask at the same address.
        assert_eq!(
            line(&ask(&host.netns, "web.ns.svc.cluster.local.", A, Over::Udp)),
            "ok: 10.43.0.5"
        );
    });
}

#[test]
fn long_answers_are_cut_for_udp_only() {
    served(async |_, _, client| {
        let name = "many.ns.svc.cluster.local.";
        for over in [Over::Udp, Over::Edns(900), Over::Edns(4096)] {
            let answer = ask(client, name, RecordType::A, over);
            assert!(answer.metadata.truncation);
            assert!(answer.answers.len() > 15 && answer.answers.len() < 200);
            assert_eq!(answer.edns.is_some(), over != Over::Udp);
        }
        let answer = ask(client, name, RecordType::A, Over::Tcp);
        assert_eq!(
            (answer.metadata.truncation, answer.answers.len()),
            (false, 200)
        );
        let first = |m: &Message| m.answers[0].data.to_string();
        let again = ask(client, name, RecordType::A, Over::Tcp);
        assert_ne!(
            first(&answer),
            first(&again),
            "another endpoint comes first"
        );
    });
}

#[test]
fn changes_foreign_names_and_nonsense() {
    served(async |host, api, client| {
        use RecordType::{A, AXFR};
        for over in [Over::Udp, Over::Edns(1232), Over::Tcp] {
            assert_eq!(
                line(&ask(client, "WWW.example.", A, over)),
                "ok: 203.0.113.9 | web.example."
            );
            assert_eq!(line(&ask(client, "absent.test.", A, over)), "NXDomain");
        }
        let start = Instant::now();
        assert_eq!(
            line(&ask(client, "silent.example.", A, Over::Udp)),
            "ServFail"
        );
        assert!(start.elapsed() < Duration::from_secs(4));

        let mut times: Vec<Duration> = (0..200)
            .map(|_| {
                let start = Instant::now();
                ask(client, "web.ns.svc.cluster.local.", A, Over::Udp);
                start.elapsed()
            })
            .collect();
        times.sort();
        println!(
            "a name of the cluster, asked by a pod: median {:?}, worst {:?}",
            times[100], times[199]
        );

        let start = Instant::now();
        api.slice("db", &["pg:5432"], &["10.42.0.77"]);
        while line(&ask(client, "db.ns.svc.cluster.local.", A, Over::Udp)) != "ok: 10.42.0.77" {
            assert!(start.elapsed() < Duration::from_secs(10));
        }
        println!(
            "from EndpointSlice event to its name: {:?}",
            start.elapsed()
        );

        // What is no question gets an error or nothing, and the server goes on.
        let refused = ask(client, "cluster.local.", AXFR, Over::Tcp);
        assert_eq!(refused.metadata.response_code, ResponseCode::Refused);
        client.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(2)))
                .unwrap();
            socket.connect(SERVER).unwrap();
            let mut answer = question("x.test.", A, Over::Udp);
            answer.metadata.message_type = MessageType::Response;
            let valid = answer.to_vec().unwrap();
            for junk in [&b""[..], b"\0", &[0xff; 600], &valid] {
                socket.send(junk).unwrap();
            }
            let mut broken = question("x.test.", A, Over::Udp).to_vec().unwrap();
            broken.truncate(15);
            socket.send(&broken).unwrap();
            let mut buffer = [0; 600];
            let length = socket.recv(&mut buffer).unwrap();
            let answer = Message::from_vec(&buffer[..length]).unwrap();
            assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
        });
        assert_eq!(
            line(&ask(&host.netns, "web.ns.svc.cluster.local.", A, Over::Udp)),
            "ok: 10.43.0.5"
        );
    });
}
