// SPDX-License-Identifier: Apache-2.0
//! What a node answers to those that ask it for bodies, and how long it does.

use super::*;

/// What a node answers to a question, and after how long.
async fn answer(node: &Arc<Node>, from: &PeerId, block: &Block) -> (Frame, Duration) {
    let began = Instant::now();
    let (_, frame) = ask(node, from, block).await;
    (frame, began.elapsed())
}

/// A question to a node, and what it answers first.
async fn ask(node: &Arc<Node>, from: &PeerId, block: &Block) -> (Pipe, Frame) {
    let (here, there) = duplex(1 << 16);
    let (mut here, serving) = (here.compat(), node.clone());
    let (tasks, from) = (TaskTracker::new(), *from);
    tasks.spawn(async move { drop(serving.serve(from, there.compat()).await) });
    let ask = Ask {
        id: body_id(block),
        max_size: u64::MAX,
        first: 0,
        count: 0,
    };
    write_frame(&mut here, frames::BODY_ASK, &[&ask.encode()], SECOND)
        .await
        .unwrap();
    flush(&mut here, SECOND).await.unwrap();
    let frame = read_frame(&mut here, 1 << 20, PATIENCE).await.unwrap();
    (here, frame.unwrap())
}

/// A peer that asks for blocks and takes nothing has a share of the room, and not for long.
#[tokio::test(start_paused = true)]
async fn who_takes_nothing_leaves_room_for_others() {
    let (_, nodes) = World::of(3);
    let (mut chain, _) = TestChain::of_blocks("ch", 2, 10);
    let blocks = [(); 3].map(|()| chain.data(WHOLE - 100));
    nodes[0].stores(&blocks.each_ref());
    let (slow, other) = (nodes[1].id(), nodes[2].id());
    let mut open = Vec::new();
    for block in &blocks[..2] {
        let (pipe, frame) = ask(&nodes[0], &slow, block).await;
        assert_eq!(frame.kind, frames::BODY_OFFER);
        open.push(pipe);
    }
    let (refused, _) = answer(&nodes[0], &slow, &blocks[2]).await;
    assert_eq!(parse_end(&refused.payload), Ok(DeliverStatus::Unavailable));
    let (given, _) = answer(&nodes[0], &other, &blocks[2]).await;
    assert_eq!(given.kind, frames::BODY_OFFER);
    // What nobody understands is no sign that anything is wanted.
    for _ in 0..4 {
        for pipe in &mut open {
            let _ = write_frame(pipe, 19, &[b"later"], SECOND).await;
        }
        sleep(SECOND).await;
    }
    for mut pipe in open {
        let frame = read_frame(&mut pipe, 1 << 20, PATIENCE).await.unwrap();
        assert_eq!(frame.unwrap().kind, frames::END);
    }
    for block in &blocks {
        assert!(matches!(
            nodes[0].bodies.find(&body_id(block)),
            Found::Nothing
        ));
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_nothing_says_so_within_a_second_and_at_once_to_whom_it_asks() {
    let (mut world, nodes) = World::of(3);
    let block = block(2 * MIB);
    let (asks, others) = (&nodes[0], &nodes[1]);
    let (frame, waited) = answer(asks, &others.id(), &block).await;
    assert_eq!(frame.kind, frames::BODY_NOT_YET);
    assert!(waited < SECOND && waited > SECOND / 2, "{waited:?}");
    // A node that says nothing is asked, and may not wait for an answer itself.
    let silent = world.lies(
        9,
        Arc::new(|pipe| {
            Box::pin(async move {
                sleep(SECOND * 3600).await;
                drop(pipe);
            })
        }),
    );
    let (world, announcement) = (Arc::new(world), block.without_data());
    let fetching = fetch(&world, asks, &announcement, [silent]);
    let answers = async {
        sleep(SECOND / 10).await;
        let (to_silent, at_once) = answer(asks, &silent, &block).await;
        assert_eq!(
            (to_silent.kind, at_once),
            (frames::BODY_NOT_YET, Duration::ZERO)
        );
        let (to_other, later) = answer(asks, &others.id(), &block).await;
        assert_eq!(to_other.kind, frames::BODY_NOT_YET);
        assert!(later < SECOND && later > SECOND / 2, "{later:?}");
    };
    tokio::select! {
        fetched = fetching => panic!("{fetched:?}"),
        () = answers => {}
    }
    // What is pruned, or is another block of that number, is not waited for.
    let stored = self::block(9);
    others.stores(&[&stored]);
    let (frame, waited) = answer(others, &silent, &block).await;
    assert_eq!(parse_end(&frame.payload), Ok(DeliverStatus::NotFound));
    assert_eq!((frame.kind, waited), (frames::END, Duration::ZERO));
}

/// Whoever does not have a block is not asked again, so nobody is to say so who has it.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_now_is_not_said_to_be_missing() {
    let (_, nodes) = World::of(2);
    let (asked, other) = (&nodes[0], nodes[1].id());
    let block = block(2 * MIB);
    asked.stores(&[&block]);
    // Another peer is given as much of the store as there is room for.
    let (mut chain, _) = TestChain::of_blocks("ch", 2, 10);
    let (one, other_one) = (chain.data(2 * MIB), chain.data(2 * MIB));
    let small = Arc::new(Node {
        bodies: Bodies::new(asked.key.clone(), 4 * MIB),
        ..Node::new(4)
    });
    small.stores(&[&one, &other_one]);
    let (pipe, frame) = ask(&small, &nodes[1].id(), &one).await;
    assert_eq!(frame.kind, frames::BODY_OFFER);
    let (frame, _) = answer(&small, &asked.id(), &other_one).await;
    assert_eq!(
        (frame.kind, parse_end(&frame.payload)),
        (frames::END, Ok(DeliverStatus::Unavailable))
    );
    drop(pipe);
    let (frame, _) = answer(asked, &other, &block).await;
    assert_eq!(frame.kind, frames::BODY_OFFER);
    let broken = Library::from([(TOPIC, Arc::new(Broken) as Arc<dyn BlockReader>)]);
    let stores = Node {
        library: watch::Sender::new(broken),
        ..Node::new(3)
    };
    let (frame, _) = answer(&Arc::new(stores), &other, &block).await;
    assert_eq!(parse_end(&frame.payload), Ok(DeliverStatus::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn chunks_are_passed_on_before_the_body_is_whole() {
    let (mut world, nodes) = World::of(2);
    let block = block(8 * MIB);
    // Three chunks come, and then nothing.
    let some = |data: &[u8]| {
        let chunk = |n: usize| piece(n * CHUNK, &data[n * CHUNK..(n + 1) * CHUNK]);
        [1, 4, 6].map(chunk).to_vec()
    };
    let source = world.lies(9, liar(&block, 9, some, Duration::ZERO));
    let (world, announcement) = (Arc::new(world), block.without_data());
    let (middle, end) = (&nodes[0], &nodes[1]);
    let through = fetch(&world, middle, &announcement, [source]);
    let behind = fetch(&world, end, &announcement, [middle.id()]);
    let came = async {
        while end.bytes_came() < 3 * CHUNK {
            sleep(SECOND / 100).await;
        }
    };
    tokio::select! {
        fetched = through => panic!("{fetched:?}"),
        fetched = behind => panic!("{fetched:?}"),
        came = timeout(5 * SECOND, came) => came.unwrap(),
    }
}

#[tokio::test(start_paused = true)]
async fn budgets_bound_what_is_promised_and_what_is_made() {
    let (world, nodes) = World::of(3);
    let world = Arc::new(world);
    let (mut chain, _) = TestChain::of_blocks("ch", 2, 10);
    let (one, other) = (chain.data(3 * MIB), chain.data(3 * MIB));
    nodes[1].stores(&[&one, &other]);
    let from = [nodes[1].id()];
    // All that may be promised to this peer is taken.
    let all = nodes[1].budgets[0].clone();
    let taken = all.acquire_many(16 * 1024).await.unwrap();
    let announcement = one.without_data();
    let refused = timeout(SECOND * 2, fetch(&world, &nodes[0], &announcement, &from)).await;
    assert!(
        refused.is_err() && nodes[1].bytes_served() == 0,
        "{refused:?}"
    );
    drop(taken);
    assert!(world.blamed().is_empty());
    assert!(fetch(&world, &nodes[0], &announcement, &from).await.is_ok());

    // There is room for one body at a time; the second one waits, and kept ones make room.
    let small = Bodies::new(nodes[2].key.clone(), 4 * MIB);
    let mut node = Node::new(3);
    node.bodies = small.clone();
    let both = [one.without_data(), other.without_data()];
    let (first, second) = tokio::join!(
        fetch(&world, &node, &both[0], &from),
        fetch(&world, &node, &both[1], &from),
    );
    assert_eq!(first.unwrap().data_bytes(), one.data_bytes());
    assert_eq!(second.unwrap().data_bytes(), other.data_bytes());
    let held = [&one, &other].map(|block| matches!(small.find(&body_id(block)), Found::Held(_)));
    assert_eq!(held.iter().filter(|held| **held).count(), 1);
    small.sweep(Instant::now() + 10 * SECOND, |_| Some(Height::new(9)));
    assert!(matches!(small.find(&body_id(&other)), Found::Nothing));
}

#[test]
fn nothing_is_given_by_hints_other_than_those_that_were_offered() {
    let (block, key) = (block(6 * MIB), Keypair::from_seed([1; 32]));
    let data = block.data_bytes().unwrap();
    let hints = Hints::make(&body_id(&block), &data, &key);
    let others = Hints::make(&body_id(&block), &vec![7; data.len()], &key);
    let (making, mut out) = (Making::default(), Vec::new());
    let assembly =
        |hints: &Hints| Assembly::new(&block.without_data(), hints.clone(), 1, <_>::default());
    making.assemble(assembly(&hints));
    let second = &data[CHUNK..2 * CHUNK];
    making
        .with(|body| body.put_chunk(1, second))
        .unwrap()
        .unwrap();
    assert!(making.copy(&hints, CHUNK, 100, &mut out));
    assert_eq!(out, second[..100]);
    // Neither what did not come, nor what was offered otherwise.
    assert!(!making.copy(&hints, 0, 100, &mut out));
    assert!(!making.copy(&others, CHUNK, 100, &mut out));
    // It begins anew by the same hints, and by others.
    making.assemble(assembly(&hints));
    assert!(!making.copy(&hints, CHUNK, 100, &mut out));
    making.assemble(assembly(&others));
    let filled = [7; CHUNK];
    making
        .with(|body| body.put_chunk(1, &filled))
        .unwrap()
        .unwrap();
    assert!(!making.copy(&hints, CHUNK, 100, &mut out));
}

#[test]
fn one_peer_is_asked_for_so_many_bodies_at_a_time() {
    let bodies = Bodies::new(Keypair::from_seed([1; 32]), MIB);
    let [peer, other] = [2, 3].map(|n| Keypair::from_seed([n; 32]).peer_id());
    let mut links: Vec<_> = (0..32).map(|_| bodies.link(peer).unwrap()).collect();
    assert!(bodies.link(peer).is_none());
    assert!(bodies.link(other).is_some());
    drop(links.pop());
    assert!(bodies.link(peer).is_some());
}

#[tokio::test]
async fn who_waits_for_room_keeps_its_place() {
    let bodies = Bodies::new(Keypair::from_seed([1; 32]), 4 * MIB);
    let [first, second, third] = [1, 2, 3].map(|number| {
        let id = BodyId {
            number: BlockNumber::new(number),
            ..body_id(&block(9))
        };
        match bodies.begin(id) {
            Begun::Mine(guard) => guard,
            Begun::Held(_) | Begun::Others => panic!("nobody else brings it"),
        }
    });
    let taken = first.room(3 * MIB).await;
    let (one, other) = (second.room(3 * MIB), third.room(2 * MIB));
    tokio::pin!(one, other);
    for _ in 0..2 {
        assert!(one.as_mut().now_or_never().is_none());
        assert!(other.as_mut().now_or_never().is_none());
        // Something changes, which is nothing to those who wait.
        drop(bodies.begin(body_id(&block(10))));
    }
    drop(taken);
    assert!(other.as_mut().now_or_never().is_none());
    assert!(one.as_mut().now_or_never().flatten().is_some());
    assert!(other.as_mut().now_or_never().flatten().is_some());
}

/// Who loses the right while a body is given gets no further piece of it, with chunks and without.
///
/// Covers: GCH-21
#[tokio::test(start_paused = true)]
async fn a_body_ends_where_the_right_is_lost() {
    for (size, at_once) in [(8 * MIB, 0), (WHOLE - 1000, 1)] {
        let (node, block) = (Arc::new(Node::new(1)), block(size));
        node.stores(&[&block]);
        let (here, there) = duplex(1 << 16);
        let (mut here, serving) = (here.compat(), node.clone());
        let other = Keypair::from_seed([2; 32]).peer_id();
        let served =
            TaskTracker::new().spawn(async move { serving.serve(other, there.compat()).await });
        let ask = Ask {
            id: body_id(&block),
            max_size: u64::MAX,
            first: 0,
            count: at_once,
        };
        write_frame(&mut here, frames::BODY_ASK, &[&ask.encode()], SECOND)
            .await
            .unwrap();
        let want = Want {
            chunks: (0..6).collect(),
            all: false,
        };
        if at_once == 0 {
            write_frame(&mut here, frames::BODY_WANT, &[&want.encode()], SECOND)
                .await
                .unwrap();
        }
        let mut pieces = 0;
        let end = loop {
            let frame = read_frame(&mut here, 2 * MIB, PATIENCE).await.unwrap();
            let Frame { kind, payload } = frame.unwrap();
            match kind {
                frames::BODY_PIECE => {
                    pieces += 1;
                    node.open.store(false, Ordering::Relaxed);
                }
                frames::END => break parse_end(&payload),
                _ => assert_eq!(kind, frames::BODY_OFFER),
            }
        };
        assert_eq!(end, Ok(DeliverStatus::Forbidden));
        assert!((1..=2).contains(&pieces), "{pieces}");
        assert_eq!(node.counters.snapshot().not_entitled, 1);
        served.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_published_takes_the_place_of_what_came() {
    for size in [200_000, 6 * MIB] {
        let (world, nodes) = World::of(2);
        let (world, block) = (Arc::new(world), block(size));
        nodes[1].stores(&[&block]);
        let (announcement, from) = (block.without_data(), [nodes[1].id()]);
        let came = fetch(&world, &nodes[0], &announcement, &from)
            .await
            .unwrap();
        let held = |node: &Node| match node.bodies.find(&body_id(&block)) {
            Found::Held(held) => held,
            Found::Making(_) | Found::Nothing => panic!("{size}"),
        };
        let bodies = &nodes[0].bodies;
        let told = bodies.hints(&body_id(&block), &held(&nodes[0])).await;
        bodies.keep(body_id(&block), &block);
        let kept = held(&nodes[0]);
        let bytes = block.raw().as_ptr_range();
        assert!(bytes.contains(&kept.data().as_ptr()), "{size}");
        assert!(came.raw().is_unique(), "nobody else has it any more");
        // The manifest is still that of its maker.
        assert_eq!(bodies.hints(&body_id(&block), &kept).await, told);
    }
}

#[tokio::test(start_paused = true)]
async fn two_who_want_one_body_get_it_once() {
    let (world, nodes) = World::of(2);
    let (world, block) = (Arc::new(world), block(WHOLE));
    nodes[1].stores(&[&block]);
    let announcement = block.without_data();
    let from = [nodes[1].id()];
    let both = [(); 2].map(|()| fetch(&world, &nodes[0], &announcement, &from));
    for fetched in futures::future::join_all(both).await {
        assert_eq!(fetched.unwrap().data_bytes(), block.data_bytes());
    }
    assert_eq!(nodes[0].counters.snapshot().bodies_fetched, 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_longer_than_any_may_be_is_not_begun() {
    let (world, nodes) = World::of(2);
    let (world, block) = (Arc::new(world), block(61 * MIB));
    nodes[1].stores(&[&block]);
    let announcement = block.without_data();
    let from = [nodes[1].id()];
    let fetched = fetch(&world, &nodes[0], &announcement, &from).await;
    assert!(
        matches!(fetched, Err(FetchError::TooLarge { .. })),
        "{fetched:?}"
    );
    nodes[0].shared.left.cancel();
    let closed = fetch(&world, &nodes[0], &announcement, &from).await;
    assert!(matches!(closed, Err(FetchError::Closed)), "{closed:?}");
    assert!(!nodes[0].shared.pulling.load(Ordering::Relaxed));
}
