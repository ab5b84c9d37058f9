//! A server for tests: answers one connection after the other with what it was given, and tells
//! what it was asked.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use super::AdminAddress;

/// Serves one connection for each of `answers`. The thread ends with the requests, in lower case.
pub(crate) fn answering(answers: &[&'static str]) -> (AdminAddress, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().into();
    let answers = answers.to_vec();
    let serve = move |answer: &str| {
        let (mut socket, _) = listener.accept().unwrap();
        let request = read_request(&mut socket);
        socket.write_all(answer.as_bytes()).unwrap();
        request
    };
    let server = std::thread::spawn(move || answers.into_iter().map(serve).collect());
    (address, server)
}

/// Reads one request, head and body.
fn read_request(socket: &mut impl Read) -> String {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).unwrap();
        seen.extend_from_slice(&byte);
    }
    let head = String::from_utf8(seen).unwrap().to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    socket.read_exact(&mut body).unwrap();
    head + &String::from_utf8(body).unwrap()
}
