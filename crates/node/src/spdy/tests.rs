//! Tests of `spdy`.

#![allow(clippy::unwrap_used, reason = "tests")]
use bytes::{Bytes, BytesMut};
use tokio::{io::AsyncWriteExt as _, sync::mpsc};

use super::{
    Lifetime, SpdyError,
    dictionary::dictionary,
    frame::{self, Frame},
    headers::{Decoder, Encoder, Headers},
    serve,
};

#[test]
fn the_dictionary_is_the_one_that_peers_have() {
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in dictionary() {
        a = (a + u32::from(byte)) % 65521;
        b = (b + a) % 65521;
    }
    assert_eq!((dictionary().len(), (b << 16) | a), (1423, 0xe3c6_a7c2));
}

fn headers(pairs: &[(&str, &str)]) -> Headers {
    pairs
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect()
}

#[test]
fn header_blocks_share_one_context() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let long = "x".repeat(30_000);
    let blocks = [
        headers(&[
            ("streamtype", "error"),
            ("port", "8080"),
            ("requestid", "0"),
        ]),
        headers(&[]),
        headers(&[("streamtype", "data"), ("port", "8080"), ("requestid", "0")]),
        headers(&[("big", &long)]),
        headers(&[("streamtype", "error")]),
    ];
    for block in blocks {
        let bytes = encoder.encode(&block).unwrap();
        assert_eq!(decoder.decode(&bytes).unwrap(), block);
    }
}

/// A block that another implementation of zlib has made (`deflate` with the dictionary, sync flush).
#[test]
fn a_foreign_header_block_is_read() {
    let block = hex::decode(FOREIGN).unwrap();
    let got = Decoder::new().decode(&block).unwrap();
    assert_eq!(
        got,
        headers(&[("streamtype", "stdin"), ("connection", "keep-alive")])
    );
}
const FOREIGN: &str =
    "78bbe3c6a7c202e50e50ca0a2e294a4dcc851625acc525c03c011276462eef90921f000000ffff";

#[test]
fn bombs_and_rubbish_are_refused() {
    let mut encoder = Encoder::new();
    let bomb = encoder
        .encode(&headers(&[("a", &"0".repeat(1 << 20))]))
        .unwrap();
    assert!(bomb.len() < 10_000);
    assert!(matches!(
        Decoder::new().decode(&bomb),
        Err(SpdyError::Headers)
    ));
    for rubbish in [&b"\xff\xff\xff"[..], b"", b"x\x9c\x00"] {
        assert!(Decoder::new().decode(rubbish).is_err());
    }
}

#[tokio::test]
async fn streams_carry_bytes_both_ways_and_half_close() {
    let (client, server) = tokio::io::duplex(1024);
    let (tx, mut streams) = mpsc::channel(4);
    let serving = tokio::spawn(serve(server, Lifetime::Client, tx));
    let echo = tokio::spawn(async move {
        while let Some(mut stream) = streams.recv().await {
            assert_eq!(stream.header("streamtype"), Some("data"));
            tokio::spawn(async move {
                while let Some(bytes) = stream.incoming.recv().await {
                    assert!(stream.sender.send(bytes).await);
                }
                stream.sender.finish().await;
            });
        }
    });
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let (mut reader, mut writer) = tokio::io::split(client);
    let mut out = BytesMut::new();
    for id in [1, 3] {
        let open = Frame::Open {
            id,
            headers: headers(&[("streamType", "data")]),
            fin: false,
        };
        frame::write(&open, &mut encoder, &mut out).unwrap();
    }
    frame::write(&Frame::Ping { id: 5 }, &mut encoder, &mut out).unwrap();
    let big = Bytes::from(vec![7; 100_000]);
    for id in [1, 3] {
        frame::write(
            &Frame::Data {
                id,
                data: big.clone(),
                fin: true,
            },
            &mut encoder,
            &mut out,
        )
        .unwrap();
    }
    let writing = tokio::spawn(async move {
        writer.write_all(&out).await.unwrap();
        writer
    });
    let (mut got, mut fins, mut replies, mut pings) = ([0, 0], 0, 0, 0);
    while fins < 2 {
        match frame::read(&mut reader, &mut decoder)
            .await
            .unwrap()
            .unwrap()
        {
            Frame::Data { id, data, fin } => {
                got[usize::from(id == 3)] += data.len();
                fins += usize::from(fin);
            }
            Frame::Reply { .. } => replies += 1,
            Frame::Ping { id: 5 } => pings += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((got, replies, pings), ([100_000, 100_000], 2, 1));
    let mut writer = writing.await.unwrap();
    writer.shutdown().await.unwrap();
    drop((reader, writer));
    serving.await.unwrap().unwrap();
    echo.await.unwrap();
}
