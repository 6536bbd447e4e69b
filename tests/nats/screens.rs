//! Screens of a room on another machine: the tunnel that carries them, what it does where words are lost, and who is let in.

use std::io::ErrorKind;

use async_nats::{Client, HeaderMap, Message, Subscriber};
use futures_util::StreamExt as _;
use podium::{
    attach::{
        far,
        tunnel::{self, Hello, Lane, Parted, To, Welcome},
    },
    room::{Answer, Order},
    runtime::caller::{Met, Missed, Server},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use super::{
    elsewhere::{LEASE, Place, with_lease},
    rooms::{held, other_room},
    *,
};

/// What the room must never hold for a screen that does not read: what may be on its way, and what sockets hold.
const HELD_AT_MOST: usize = (4 << 20) + (1 << 20);

/// Both ends of a tunnel, each with a connection of its own.
async fn tunnel(server: &Nats) -> ([UnixStream; 2], JoinSet<Parted>) {
    let [one, other] = [far::name().unwrap(), far::name().unwrap()];
    let (mut streams, mut lanes) = (Vec::new(), Vec::new());
    for (to, from) in [(&one, &other), (&other, &one)] {
        let client = async_nats::connect(server.url()).await.unwrap();
        let from = heard(&client, from).await;
        let (ours, theirs) = UnixStream::pair().unwrap();
        lanes.push(Lane::new(client, tunnel::subject(to), from).carry(theirs));
        streams.push(ours);
    }
    // Both are subscribed before either speaks.
    (streams.try_into().unwrap(), lanes.into_iter().collect())
}

async fn heard(client: &Client, name: &str) -> Subscriber {
    let heard = client.subscribe(tunnel::subject(name)).await.unwrap();
    // The server has it when it has answered.
    let inbox = client.new_inbox();
    let mut back = client.subscribe(inbox.clone()).await.unwrap();
    client.publish(inbox, "".into()).await.unwrap();
    back.next().await.unwrap();
    heard
}

async fn parted(lanes: &mut JoinSet<Parted>) -> Vec<Parted> {
    let mut all = Vec::new();
    while let Some(parted) = timeout(PATIENCE, lanes.join_next()).await.expect("both ends part") {
        all.push(parted.unwrap());
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_in_at_one_end_comes_out_at_the_other_and_a_closed_end_closes_both() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let ([here, there], mut lanes) = tunnel(&server).await;
    let bytes: Vec<u8> = (0..20_000_003_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let (mut here_reads, mut here_writes) = here.into_split();
    let (mut there_reads, mut there_writes) = there.into_split();
    // Both ways at once.
    let (sent, back) = (bytes.clone(), bytes.clone());
    let writes = async { tokio::join!(here_writes.write_all(&sent), there_writes.write_all(&back)) };
    let (mut came, mut went) = (vec![0; bytes.len()], vec![0; bytes.len()]);
    let reads = async { tokio::join!(there_reads.read_exact(&mut came), here_reads.read_exact(&mut went)) };
    let ((a, b), (c, d)) = timeout(PATIENCE, async { tokio::join!(writes, reads) }).await.expect("all arrives");
    a.unwrap();
    b.unwrap();
    c.unwrap();
    d.unwrap();
    assert!(came == bytes && went == bytes, "not a byte is another one");
    drop((here_reads, here_writes));
    assert_eq!(there_reads.read(&mut [0]).await.unwrap(), 0, "the other end is closed too");
    let parted = parted(&mut lanes).await;
    assert!(parted.contains(&Parted::Here) && parted.iter().any(|p| matches!(p, Parted::There(_))), "{parted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_holds_the_other_end_up_as_a_socket_does() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let ([mut here, mut there], _lanes) = tunnel(&server).await;
    let piece = vec![7; 64 * 1024];
    let mut taken = 0;
    while let Ok(wrote) = timeout(Duration::from_secs(3), here.write(&piece)).await {
        taken += wrote.unwrap();
        assert!(taken < 2 * HELD_AT_MOST, "{taken} bytes are held for nobody");
    }
    assert!(taken < HELD_AT_MOST, "{taken}");
    // It is kept, and goes on when somebody reads.
    let mut read = vec![0; taken];
    timeout(PATIENCE, there.read_exact(&mut read)).await.unwrap().unwrap();
    assert!(read.iter().all(|byte| *byte == 7));
    timeout(PATIENCE, here.write_all(&piece)).await.expect("there is room again").unwrap();
}

/// One end of a tunnel, and the hand at the other.
struct Hand {
    client: Client,
    to: String,
    told: Subscriber,
    stream: UnixStream,
    lane: JoinSet<Parted>,
}

impl Hand {
    async fn new(server: &Nats) -> Self {
        let [there, here] = [far::name().unwrap(), far::name().unwrap()];
        let client = async_nats::connect(server.url()).await.unwrap();
        let told = heard(&client, &there).await;
        let own = async_nats::connect(server.url()).await.unwrap();
        let says = heard(&own, &here).await;
        let (stream, theirs) = UnixStream::pair().unwrap();
        let mut lane = JoinSet::new();
        lane.spawn(Lane::new(own, tunnel::subject(&there), says).carry(theirs));
        Self { client, to: tunnel::subject(&here), told, stream, lane }
    }

    async fn say(&self, headers: &[(&str, &str)], body: &[u8]) {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.insert(*name, *value);
        }
        self.client.publish_with_headers(self.to.clone(), all, body.to_vec().into()).await.unwrap();
    }

    /// The next frame that is the last one; why.
    async fn end(&mut self) -> String {
        let last = async {
            loop {
                let message: Message = self.told.next().await.unwrap();
                if let Some(why) = message.headers.unwrap().get("Podium-End") {
                    return why.to_string();
                }
            }
        };
        timeout(PATIENCE, last).await.expect("it says that it ends")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_is_lost_or_comes_again_ends_the_tunnel_and_nonsense_does_not() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let frame = |at: &'static str| [("Podium-At", at), ("Podium-Got", "0")];
    for (at, lost) in [("4", 1), ("0", -3), ("18446744073709551615", i128::from(u64::MAX) - 3)] {
        let mut hand = Hand::new(&server).await;
        let huge = vec![b'x'; 900_000];
        hand.client.publish(hand.to.clone(), huge.clone().into()).await.unwrap();
        for nonsense in [
            &[("Podium-At", "0")][..],
            &[("Podium-At", "-1"), ("Podium-Got", "0")],
            &[("Podium-At", "0"), ("Podium-Got", "many")],
            &[("Podium-At", "0"), ("Podium-Got", "0"), ("Nats-Stream", "KV_podium-tasks")],
        ] {
            hand.say(nonsense, b"forged").await;
        }
        hand.say(&frame("0"), b"abc").await;
        let mut read = [0; 3];
        timeout(PATIENCE, hand.stream.read_exact(&mut read)).await.unwrap().unwrap();
        assert_eq!(&read, b"abc", "what is no frame changes nothing");
        hand.say(&frame(at), b"d").await;
        assert_eq!(parted(&mut hand.lane).await, [Parted::Lost(lost)]);
        assert!(hand.end().await.contains("lost on the way"));
        let closed = hand.stream.read(&mut read).await;
        assert!(matches!(&closed, Ok(0)) || closed.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    }
    // Who claims what was never sent, or sends more than is taken.
    let mut hand = Hand::new(&server).await;
    hand.say(&[("Podium-At", "0"), ("Podium-Got", "1")], b"").await;
    assert_eq!(parted(&mut hand.lane).await, [Parted::Flooded]);
    let mut hand = Hand::new(&server).await;
    let piece = vec![b'x'; 500_000];
    for n in 0..20 {
        hand.say(&[("Podium-At", &(n * piece.len()).to_string()), ("Podium-Got", "0")], &piece).await;
    }
    assert_eq!(parted(&mut hand.lane).await, [Parted::Flooded]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_says_nothing_is_missed_and_one_without_a_server_too() {
    let Some(program) = servers::server() else { return };
    let mut server = Nats::start(&program);
    let mut hand = Hand::new(&server).await;
    let begun = tokio::time::Instant::now();
    assert_eq!(parted(&mut hand.lane).await, [Parted::Silent]);
    assert!(begun.elapsed() < tunnel::SILENCE + Duration::from_secs(5), "{:?}", begun.elapsed());
    let ([mut here, _there], mut lanes) = tunnel(&server).await;
    here.write_all(b"word").await.unwrap();
    server.kill();
    let parted = parted(&mut lanes).await;
    assert!(parted.contains(&Parted::Silent), "{parted:?}");
}

/// Asks for a tunnel with these words.
async fn ask(client: &Client, hello: Vec<u8>) -> Option<Welcome> {
    let answer = timeout(Duration::from_secs(2), client.request(tunnel::HELLO, hello.into())).await.ok()?.ok()?;
    tunnel::read(&answer)
}

fn hello(version: &str) -> Vec<u8> {
    let hello =
        Hello { version: version.into(), screen: far::name().unwrap(), to: To::Room, host: "attic\n".into(), pid: 7 };
    serde_json::to_vec(&hello).unwrap()
}

/// The room of a server, as a screen in another stage asks for it.
async fn asked(server: &Nats, place: &Place) -> Option<Met> {
    let settings = Settings { makes: false, ..settings(server.address(), &place.stage) };
    Box::pin(Server::room(settings)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_screen_on_another_machine_is_let_in_its_orders_are_carried_out_and_nonsense_is_not() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    with_lease(&server, LEASE).await;
    let (first, second) = (other_room(&server), other_room(&server));
    // While nobody acts on the server nobody answers.
    assert!(asked(&server, &second).await.is_none());
    let mut room = first.start(&["serve"], "room.log");
    held(&first).await;
    let mut met = loop {
        if let Some(met) = asked(&server, &second).await {
            break met;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let whose = met.whose.clone().expect("it says whose it is");
    assert_eq!(whose.stage, first.stage.display().to_string());
    assert_eq!(met.link.state().stage, first.stage);
    let client = async_nats::connect(server.url()).await.unwrap();
    for nonsense in [
        b"".to_vec(),
        b"{".to_vec(),
        b"{}".to_vec(),
        vec![b'['; 900_000],
        format!(r#"{{"version":"{}","screen":">","to":"room","host":"h","pid":1}}"#, env!("CARGO_PKG_VERSION")).into(),
        format!(
            r#"{{"version":"{}","screen":"{:032x}","to":"vault","host":"h","pid":1}}"#,
            env!("CARGO_PKG_VERSION"),
            1
        )
        .into(),
    ] {
        let answer = ask(&client, nonsense.clone()).await;
        assert!(matches!(answer, None | Some(Welcome::Bye(_))), "{:?}: {answer:?}", String::from_utf8_lossy(&nonsense));
    }
    let Some(Welcome::Bye(why)) = ask(&client, hello("0.0.1")).await else { panic!("another podium is let in") };
    let (host, own) = (&whose.host, env!("CARGO_PKG_VERSION"));
    assert_eq!(
        why,
        format!(
            "the room on {host} is podium {own}, and the screen on attic is podium 0.0.1; install the same podium on both"
        )
    );
    // One that says hello and nothing more is missed; many of them are not let in.
    let mut open = 0;
    for _ in 0..100 {
        match ask(&client, hello(own)).await {
            Some(Welcome::Open { .. }) => open += 1,
            Some(Welcome::Bye(why)) => {
                assert!(why.contains("too many screens"), "{why}");
                break;
            }
            None => panic!("no answer"),
        }
    }
    assert!((50..64).contains(&open), "{open}");
    // What is ordered is done there.
    let spec = TaskSpec::new(task("anga/far"), "Ordered from afar.");
    let answer = met.link.order(Order::Task { spec: Box::new(spec), rename: false }).await.unwrap();
    assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
    first.until("the task", || first.log("tasks/anga/far.json").contains("from afar").then_some(())).await;
    assert!(!second.stage.join(".podium/room.json").exists(), "no room was made here");
    let gone = || first.log("room.log").matches("a screen on another machine has gone").count();
    first.until("room for others", || (gone() >= open).then_some(())).await;
    assert!(asked(&server, &second).await.is_some());
    // It says goodbye.
    assert!(first.podium(&["stop"]).output().unwrap().status.success());
    room.wait();
    let last = async { while met.link.next().await.is_ok() {} };
    timeout(Duration::from_secs(5), last).await.expect("the screen hears that the room has left");
    let missed = met.caller.call().await.unwrap_err();
    assert!(matches!(missed, Missed::Free(_)), "{missed}");
}
