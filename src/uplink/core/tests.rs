use super::*;

fn at(ms: u64) -> Now {
    Now {
        mono: Mono(ms * 1_000_000),
        ..Now::default()
    }
}

fn step(core: &mut UplinkCore, now: Now, input: Event) -> Vec<Effect> {
    let mut out = Out::default();
    core.step(now, input, &mut out);
    out.effects
}

fn opened(core: &mut UplinkCore) {
    assert_eq!(
        step(core, at(0), Event::Start { has_token: true }),
        [Effect::Open]
    );
    assert_eq!(
        step(core, at(1), Event::Opened),
        [Effect::Report(LinkReport::Up)]
    );
}

#[test]
fn a_lost_link_is_tried_again_within_a_tenth_of_a_second() {
    let mut core = UplinkCore::new(7, false);
    opened(&mut core);
    step(&mut core, at(2), Event::Heard { frame: true });
    step(
        &mut core,
        at(1000),
        Event::Closed {
            why: "reset".into(),
            superseded: false,
        },
    );
    let due = core.deadline().expect("it tries again");
    assert!(due <= at(1100).mono, "due {due:?}");
    assert_eq!(
        step(
            &mut core,
            Now {
                mono: due,
                ..Now::default()
            },
            Event::Tick
        ),
        [Effect::Open]
    );
}

#[test]
fn an_engine_that_stays_away_is_asked_ever_more_rarely_but_at_least_every_half_minute() {
    let mut core = UplinkCore::new(7, false);
    step(&mut core, at(0), Event::Start { has_token: true });
    let mut now = at(0);
    let mut waits = Vec::new();
    while now.mono < at(600_000).mono {
        step(
            &mut core,
            now,
            Event::OpenFailed {
                why: "refused".into(),
                unauthorized: false,
            },
        );
        let due = core.deadline().expect("it tries again");
        waits.push(due.since(now.mono));
        now = Now { mono: due, ..now };
        assert_eq!(step(&mut core, now, Event::Tick), [Effect::Open]);
    }
    assert!(waits[0] <= BACKOFF_FIRST);
    assert!(waits.len() < 90, "{} tries in ten minutes", waits.len());
    assert!(
        waits.iter().all(|w| *w <= BACKOFF_MOST)
            && *waits.last().expect("some") >= BACKOFF_MOST / 2
    );
}

#[test]
fn an_engine_that_was_away_for_a_few_seconds_is_found_soon_after_it_is_back() {
    let mut late = Vec::new();
    for seed in 0..101 {
        let mut core = UplinkCore::new(seed, false);
        step(&mut core, at(0), Event::Start { has_token: true });
        let (mut now, back) = (at(0), at(5000));
        while now.mono < back.mono {
            let failed = Event::OpenFailed {
                why: "refused".into(),
                unauthorized: false,
            };
            step(&mut core, now, failed);
            let due = core.deadline().expect("it tries again");
            now = Now { mono: due, ..now };
            step(&mut core, now, Event::Tick);
        }
        late.push(now.mono.since(back.mono));
    }
    late.sort();
    assert!(
        late[50] < Duration::from_secs(1),
        "at the median {:?}",
        late[50]
    );
    assert!(
        late[100] < Duration::from_millis(1700),
        "at most {:?}",
        late[100]
    );
}

/// N3, N4: a refused token is replaced by one mint, unless the operator gave it.
#[test]
fn a_refused_token_is_minted_anew_and_a_pinned_one_is_not() {
    let mut core = UplinkCore::new(1, false);
    step(&mut core, at(0), Event::Start { has_token: true });
    step(
        &mut core,
        at(1),
        Event::OpenFailed {
            why: "401".into(),
            unauthorized: true,
        },
    );
    let due = core.deadline().expect("it goes on");
    assert_eq!(
        step(
            &mut core,
            Now {
                mono: due,
                ..Now::default()
            },
            Event::Tick
        ),
        [Effect::Mint]
    );

    let mut pinned = UplinkCore::new(1, true);
    step(&mut pinned, at(0), Event::Start { has_token: true });
    step(
        &mut pinned,
        at(1),
        Event::OpenFailed {
            why: "401".into(),
            unauthorized: true,
        },
    );
    let due = pinned.deadline().expect("it goes on");
    assert!(due >= at(15_000).mono, "slowly");
    assert_eq!(
        step(
            &mut pinned,
            Now {
                mono: due,
                ..Now::default()
            },
            Event::Tick
        ),
        [Effect::Open]
    );
}

/// Waits as long as it wants to, and gives what it does then.
fn next(core: &mut UplinkCore) -> (Mono, Vec<Effect>) {
    let due = core.deadline().expect("it goes on");
    let now = Now {
        mono: due,
        ..Now::default()
    };
    (due, step(core, now, Event::Tick))
}

fn refused(core: &mut UplinkCore, now: Mono) -> Vec<Effect> {
    let now = Now {
        mono: now,
        ..Now::default()
    };
    let input = Event::OpenFailed {
        why: "401".into(),
        unauthorized: true,
    };
    step(core, now, input)
}

/// N4: at most five fresh tokens in a row, with growing pauses, and then loud.
#[test]
fn five_fresh_tokens_in_a_row_are_asked_for_and_then_no_more_but_trying_goes_on_slowly() {
    let mut core = UplinkCore::new(1, false);
    step(&mut core, at(0), Event::Start { has_token: true });
    let mut now = Mono(0);
    let mut minted = 0;
    for _ in 0..20 {
        let said = refused(&mut core, now);
        let (due, orders) = next(&mut core);
        let gave_up = matches!(&said[..], [Effect::Report(LinkReport::Refused(why))]
            if why.contains("no more are asked for"));
        if gave_up {
            assert_eq!(orders, [Effect::Open], "with the token at hand");
            assert!(due.since(now) >= BACKOFF_MOST / 2, "slowly");
        } else {
            assert_eq!(orders, [Effect::Mint]);
            minted += 1;
            assert_eq!(step(&mut core, at(0), Event::Minted), [Effect::Open]);
        }
        now = due;
    }
    assert_eq!(minted, REFUSALS_MOST);
}

/// How many tokens are asked for while every fresh one is refused, with `between` after each.
fn minted_with(between: &[Event]) -> u32 {
    let mut core = UplinkCore::new(1, false);
    step(&mut core, at(0), Event::Start { has_token: true });
    let mut now = Mono(0);
    let mut minted = 0;
    for _ in 0..20 {
        refused(&mut core, now);
        let (due, mut orders) = next(&mut core);
        now = due;
        if orders == [Effect::Mint] {
            minted += 1;
            orders = step(&mut core, at(0), Event::Minted);
        }
        for input in between {
            assert_eq!(orders, [Effect::Open]);
            step(&mut core, Now { mono: now, ..at(0) }, input.clone());
            if matches!(core.state, State::Waiting { .. }) {
                (now, orders) = next(&mut core);
            }
        }
    }
    minted
}

/// N4: the count begins anew with an established link, and with nothing less.
#[test]
fn only_an_established_link_lets_more_tokens_be_asked_for() {
    let unavailable = Event::OpenFailed {
        why: "503".into(),
        unauthorized: false,
    };
    assert_eq!(
        minted_with(std::slice::from_ref(&unavailable)),
        REFUSALS_MOST
    );
    assert_eq!(
        minted_with(&[unavailable.clone(), unavailable]),
        REFUSALS_MOST
    );
}

/// N4: a socket that opens, and closes again before the engine has said a word, proves nothing of the token.
#[test]
fn a_link_that_was_never_registered_is_not_established() {
    for (registered, more) in [(false, false), (true, true)] {
        let mut core = UplinkCore::new(1, false);
        step(&mut core, at(0), Event::Start { has_token: true });
        let mut now = Mono(0);
        for _ in 0..REFUSALS_MOST {
            refused(&mut core, now);
            now = next(&mut core).0;
            step(&mut core, at(0), Event::Minted);
        }
        step(&mut core, at(0), Event::Opened);
        step(&mut core, at(0), Event::Heard { frame: registered });
        let closed = Event::Closed {
            why: "go away".into(),
            superseded: false,
        };
        step(&mut core, at(0), closed);
        assert_eq!(next(&mut core).1, [Effect::Open]);
        refused(&mut core, now);
        let asks = next(&mut core).1 == [Effect::Mint];
        assert_eq!(asks, more, "registered: {registered}");
    }
}

/// N4: an engine that gives no token for a while does not make it forget how many were refused.
#[test]
fn a_token_that_is_not_to_be_had_does_not_count_as_one_that_was_taken() {
    let mut core = UplinkCore::new(1, false);
    step(&mut core, at(0), Event::Start { has_token: true });
    let (mut now, mut minted) = (Mono(0), 0);
    for _ in 0..20 {
        refused(&mut core, now);
        let (due, orders) = next(&mut core);
        now = due;
        if orders != [Effect::Mint] {
            continue;
        }
        let failed = Event::MintFailed {
            why: "no".into(),
            refused: false,
        };
        step(&mut core, Now { mono: now, ..at(0) }, failed);
        let (due, orders) = next(&mut core);
        (now, minted) = (due, minted + 1);
        assert_eq!(orders, [Effect::Mint]);
        step(&mut core, at(0), Event::Minted);
    }
    assert_eq!(minted, REFUSALS_MOST);
}

#[test]
fn an_engine_that_gives_no_token_is_asked_again_slowly_when_it_said_no_and_soon_when_it_said_nothing()
 {
    for (says_no, least) in [(true, BACKOFF_MOST / 2), (false, Duration::ZERO)] {
        let mut core = UplinkCore::new(1, false);
        assert_eq!(
            step(&mut core, at(0), Event::Start { has_token: false }),
            [Effect::Mint]
        );
        let input = Event::MintFailed {
            why: "no".into(),
            refused: says_no,
        };
        let said = step(&mut core, at(0), input);
        let loud = matches!(said[..], [Effect::Report(LinkReport::Refused(_))]);
        assert_eq!(loud, says_no);
        let (due, orders) = next(&mut core);
        assert!(due.since(Mono(0)) >= least);
        assert!(says_no || due.since(Mono(0)) <= BACKOFF_FIRST);
        assert_eq!(orders, [Effect::Mint]);
    }
}

#[test]
fn a_node_whose_place_another_process_took_says_so_and_stays_away_for_long() {
    let mut core = UplinkCore::new(1, false);
    opened(&mut core);
    let superseded = Event::Closed {
        why: "closed by the other side (1000 superseded)".into(),
        superseded: true,
    };
    let said = step(&mut core, at(1), superseded);
    assert!(
        matches!(&said[..], [Effect::Report(LinkReport::Lost(why))] if why.contains("same node id")),
        "{said:?}"
    );
    let (due, orders) = next(&mut core);
    assert!(due.since(at(1).mono) >= BACKOFF_MOST / 2);
    assert_eq!(orders, [Effect::Open]);
}

/// An engine takes the socket of a node that it has already for a newer one, and closes the one that lives.
#[test]
fn a_node_whose_socket_was_replaced_is_back_at_once_and_stays_away_only_from_a_rival() {
    let mut core = UplinkCore::new(1, false);
    step(&mut core, at(0), Event::Start { has_token: true });
    let mut waits = Vec::new();
    let mut now = at(0);
    for lived in [1, 100_000, 1000, 90_000] {
        step(&mut core, now, Event::Opened);
        step(&mut core, now, Event::Heard { frame: true });
        now.mono = now.mono + Duration::from_millis(lived);
        let why = "closed by the other side (4000 superseded)".into();
        let said = step(&mut core, now, Event::Replaced { why });
        let loud = matches!(&said[..], [Effect::Report(LinkReport::Lost(why))]
            if why.contains("same node id"));
        let (due, orders) = next(&mut core);
        assert_eq!(orders, [Effect::Open]);
        let soon = due.since(now.mono) <= BACKOFF_FIRST;
        assert_ne!(soon, loud, "told, and slow, or neither");
        waits.push(soon);
        now.mono = due;
    }
    assert_eq!(waits, [true, true, false, true]);
}

#[test]
fn links_that_open_and_are_never_registered_are_tried_ever_more_rarely() {
    let mut core = UplinkCore::new(1, false);
    step(&mut core, at(0), Event::Start { has_token: true });
    let mut wait = Duration::ZERO;
    let mut now = at(0);
    for _ in 0..80 {
        step(&mut core, now, Event::Opened);
        step(&mut core, now, Event::Heard { frame: false });
        let closed = Event::Closed {
            why: "go away".into(),
            superseded: false,
        };
        step(&mut core, now, closed);
        let (due, _) = next(&mut core);
        wait = due.since(now.mono);
        now = Now {
            mono: due,
            ..Now::default()
        };
    }
    assert!(wait >= BACKOFF_MOST / 2, "{wait:?}");
    step(&mut core, now, Event::Opened);
    step(&mut core, now, Event::Heard { frame: true });
    step(&mut core, now, Event::Reconnect);
    let (due, _) = next(&mut core);
    assert!(
        due.since(now.mono) <= BACKOFF_FIRST,
        "registered: as if new"
    );
}

#[test]
fn a_black_holed_link_is_noticed() {
    let mut core = UplinkCore::new(1, false);
    opened(&mut core);
    assert!(
        step(&mut core, at(40_000), Event::Tick).is_empty(),
        "not yet"
    );
    let out = step(&mut core, at(48_002), Event::Tick);
    assert_eq!(out[0], Effect::Drop);
    assert!(matches!(out[1], Effect::Report(LinkReport::Lost(_))));
}
