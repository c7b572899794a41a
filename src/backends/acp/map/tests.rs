//! The rules of the mapping that no recording shows.

use std::time::Duration;

use hearth_actors::event::{FaultClass, Reset, ToolStatus};
use hearth_actors::model::Usage;
use serde_json::json;

use super::*;
use crate::backends::cap::MAX_VALUE;

fn update(session: &str, update: &Value) -> String {
    json!({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": session, "update": update}})
        .to_string()
}

fn chunk(text: &str) -> Value {
    json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}})
}

fn mapper(quirks: &[&str]) -> Mapper {
    let names: Vec<String> = quirks.iter().map(|name| (*name).into()).collect();
    let mut mapper = Mapper::default();
    mapper.set_quirks(Quirks::of("", &names));
    mapper
}

fn said(mapper: &mut Mapper, value: &Value) -> Vec<Said> {
    match mapper.line(&update("s", value), Some("s")) {
        Mapped::Said(said) => said,
        other => panic!("{other:?}"),
    }
}

#[test]
fn text_survives_escapes_and_is_split_between_characters() {
    let mut mapper = Mapper::default();
    let odd = "quote \" newline \n and ü\u{1f525} and \"_chunk\"";
    assert_eq!(said(&mut mapper, &chunk(odd)), [Said::Text(odd.into())]);

    let long = "ü".repeat(TEXT_PIECE);
    let pieces = said(&mut mapper, &chunk(&long));
    assert_eq!(pieces.len(), 2);
    let joined: String = pieces
        .iter()
        .map(|piece| match piece {
            Said::Text(text) if text.len() <= TEXT_PIECE => text.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(joined, long);
}

#[test]
fn what_is_unknown_is_kept_raw() {
    let mut mapper = Mapper::default();
    for value in [
        json!({"sessionUpdate": "brand_new", "x": 1}),
        json!({"sessionUpdate": "brand_new_chunk", "content": {"type": "text", "text": "t"}}),
        json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "image", "data": "…"}}),
        json!({"sessionUpdate": "tool_call", "title": "without an id"}),
        json!({"no": "kind"}),
    ] {
        let said = said(&mut mapper, &value);
        assert!(matches!(said[..], [Said::Raw { .. }]), "{said:?}");
    }
    let foreign = mapper.line(&update("other", &chunk("hello")), Some("s"));
    assert!(
        matches!(&foreign, Mapped::Said(said) if matches!(said[..], [Said::Raw { .. }])),
        "{foreign:?}"
    );
    let early = mapper.line(&update("other", &chunk("hello")), None);
    assert_eq!(early, Mapped::Said(vec![Said::Text("hello".into())]));
}

#[test]
fn lines_that_are_no_messages_are_noise_and_requests_are_for_the_connection() {
    let mut mapper = Mapper::default();
    for noise in ["hello", "[1]", "3", "{\"half\":", "\"_chunk\""] {
        assert_eq!(mapper.line(noise, None), Mapped::Noise, "{noise}");
    }
    let request = json!({"id": 1, "method": "session/update", "params": {"sessionId": "s", "update": chunk("x")}});
    for line in [
        "{\"id\":1,\"result\":{}}",
        "{\"id\":null,\"error\":{}}",
        "{}",
        &request.to_string(),
    ] {
        assert_eq!(mapper.line(line, None), Mapped::Protocol, "{line}");
    }
}

#[test]
fn large_arguments_are_cut_with_a_mark_and_small_ones_are_whole() {
    let mut mapper = Mapper::default();
    let call = |size: usize| {
        json!({"sessionUpdate": "tool_call", "toolCallId": "t", "status": "in_progress",
            "kind": "switch_mode", "rawInput": {"text": "x".repeat(size)}, "rawOutput": {}})
    };
    let mut tool = |size| match said(&mut mapper, &call(size)).remove(0) {
        Said::Tool(tool) => tool,
        other => panic!("{other:?}"),
    };
    let small = tool(1_000);
    assert_eq!(small.input, Some(json!({"text": "x".repeat(1_000)})));
    assert_eq!(
        (small.kind.as_deref(), small.status),
        (Some("other"), Some(ToolStatus::InProgress))
    );
    assert_eq!(small.output, None);
    let large = tool(MAX_VALUE).input.expect("an input");
    assert_eq!(large["truncated"], true);
    assert!(large.to_string().len() < MAX_VALUE);
}

#[test]
fn money_is_told_as_it_is_spent_and_the_window_is_no_spending() {
    let mut mapper = Mapper::default();
    let mut spent = |cost: Value| {
        let update =
            json!({"sessionUpdate": "usage_update", "used": 9_000, "size": 100_000, "cost": cost});
        said(&mut mapper, &update)
    };
    let cost = |cost| {
        vec![Said::Usage(Usage {
            cost,
            ..Usage::default()
        })]
    };
    assert_eq!(
        spent(json!({"amount": 0.25, "currency": "USD"})),
        cost(0.25)
    );
    assert_eq!(spent(json!({"amount": 0.25, "currency": "USD"})), []);
    assert_eq!(spent(json!({"amount": 0.75, "currency": "USD"})), cost(0.5));
    assert_eq!(
        spent(json!({"amount": 0.125, "currency": "USD"})),
        cost(0.125)
    );
    assert_eq!(spent(Value::Null), []);
}

#[test]
fn tokens_are_folded_by_what_the_total_proves() {
    let counted = |usage: Value| {
        let said = Mapper::default().turn_end(&json!({"stopReason": "end_turn", "usage": usage}));
        match said[..] {
            [Said::Usage(usage), Said::TurnEnded(_)] => (usage.input_tokens, usage.output_tokens),
            _ => panic!("{said:?}"),
        }
    };
    let usage = |total: i64| {
        json!({"inputTokens": 100, "outputTokens": 10, "thoughtTokens": 5, "cachedReadTokens": 40,
            "cachedWriteTokens": 2, "totalTokens": total})
    };
    assert_eq!(
        counted(usage(157)),
        (142, 15),
        "all beside the plain figures"
    );
    assert_eq!(
        counted(usage(110)),
        (100, 10),
        "all within the plain figures"
    );
    assert_eq!(counted(usage(115)), (100, 15), "thoughts beside");
    assert_eq!(counted(usage(152)), (142, 10), "cache beside");
    assert_eq!(
        counted(json!({"inputTokens": 3, "outputTokens": -4})),
        (3, 0)
    );
}

fn window(used: i64) -> Value {
    json!({"sessionUpdate": "usage_update", "used": used, "size": 100_000})
}

/// Input and output of all that was told.
fn sum(said: &[Said]) -> (i64, i64) {
    said.iter().fold((0, 0), |sum, said| match said {
        Said::Usage(usage) => (sum.0 + usage.input_tokens, sum.1 + usage.output_tokens),
        _ => sum,
    })
}

#[test]
fn calls_whose_totals_are_told_count_once_each() {
    let last = json!({"inputTokens": 1000, "outputTokens": 20, "totalTokens": 1020});
    let turns = [
        ("one call", "end_turn", &[1020, 1020][..], (1000, 20)),
        ("three, all alike", "end_turn", &[1020; 4], (3040, 20)),
        (
            "three that grow",
            "end_turn",
            &[900, 950, 1020, 1020],
            (2850, 20),
        ),
        ("none told", "end_turn", &[], (1000, 20)),
        ("cut short in the first", "cancelled", &[1020], (0, 0)),
        (
            "cut short in the second",
            "cancelled",
            &[1020, 1020],
            (1000, 20),
        ),
        (
            "cut short in the third",
            "cancelled",
            &[900, 1020, 1020],
            (1900, 20),
        ),
    ];
    // One session for all: nothing is left over from turn to turn.
    let mut mapper = mapper(&["usage_of_last_call"]);
    let mut all = said(&mut mapper, &window(7_777));
    for (name, stop, totals, spent) in turns {
        for used in totals {
            all.extend(said(&mut mapper, &window(*used)));
        }
        all.extend(mapper.turn_end(&json!({"stopReason": stop, "usage": last})));
        assert_eq!(sum(&all), spent, "{name}");
        all.clear();
    }

    all.extend(said(&mut mapper, &window(900)));
    let fault = fault::other("overloaded");
    all.extend(mapper.turn_failed(fault, None));
    assert_eq!(sum(&all), (900, 0), "an error after one call");
    let unknown = Mapper::default().turn_failed(fault::other("overloaded"), None);
    assert_eq!(sum(&unknown), (0, 0));
}

#[test]
fn what_chunks_told_is_not_told_again_by_the_response() {
    let report = |input: i64| {
        let mut chunk = chunk("");
        chunk["_meta"] = json!({"usage": {"inputTokens": input, "outputTokens": 10}});
        chunk
    };
    let mut mapper = Mapper::default();
    for (response, whole) in [(300, (300, 20)), (200, (300, 20)), (350, (350, 20))] {
        let mut all = said(&mut mapper, &report(100));
        all.extend(said(&mut mapper, &report(200)));
        let usage = json!({"inputTokens": response, "outputTokens": 20});
        all.extend(mapper.turn_end(&json!({"stopReason": "end_turn", "usage": usage})));
        assert_eq!(sum(&all), whole, "{response}");
    }
}

#[test]
fn the_money_of_a_continued_sessions_past_is_not_spent_again() {
    let cost = |amount: f64| json!({"sessionUpdate": "usage_update", "cost": {"amount": amount}});
    let spent = |said: &[Said]| match said {
        [Said::Usage(usage)] => usage.cost,
        [] => 0.0,
        other => panic!("{other:?}"),
    };
    let told = |mapper: &mut Mapper, amount: f64| spent(&said(mapper, &cost(amount)));
    let mut silent = Mapper::default();
    silent.continued();
    assert_eq!([5.0, 5.25].map(|sum| told(&mut silent, sum)), [0.0, 0.25]);
    // With the past told by the replay, the first turn counts.
    let mut replayed = Mapper::default();
    told(&mut replayed, 5.0);
    replayed.continued();
    assert_eq!(
        [5.25, 5.5].map(|sum| told(&mut replayed, sum)),
        [0.25, 0.25]
    );
}

#[test]
fn quota_in_meta_counts_where_usage_is_missing() {
    let response = json!({"stopReason": "end_turn",
        "_meta": {"quota": {"token_count": {"input_tokens": 7, "output_tokens": 3}}}});
    let usage = Usage {
        input_tokens: 7,
        output_tokens: 3,
        cost: 0.0,
    };
    assert_eq!(
        Mapper::default().turn_end(&response),
        [Said::Usage(usage), Said::TurnEnded(AgentStop::EndTurn)]
    );
}

#[test]
fn an_unknown_stop_is_a_limit_and_none_is_an_error() {
    let end = |response: Value| Mapper::default().turn_end(&response).pop();
    assert_eq!(
        end(json!({"stopReason": "tired"})),
        Some(Said::TurnEnded(AgentStop::Limit("tired".into())))
    );
    assert!(matches!(
        end(json!({})),
        Some(Said::TurnEnded(AgentStop::Error(fault))) if fault.class == FaultClass::Other
    ));
}

#[test]
fn an_error_as_text_counts_only_as_the_last_word_of_a_turn_and_of_a_known_offender() {
    let end = json!({"stopReason": "end_turn"});
    let error = chunk("Ran into this error: 503 Service Unavailable");
    let stops = |quirks: &[&str], chunks: &[&Value]| {
        let mut mapper = mapper(quirks);
        for chunk in chunks {
            said(&mut mapper, chunk);
        }
        mapper.turn_end(&end).pop()
    };
    assert!(matches!(
        stops(&["errors_as_text"], &[&chunk("hello"), &error]),
        Some(Said::TurnEnded(AgentStop::Error(fault)))
            if fault.class == FaultClass::Other && fault.message.starts_with("suspected failure")
    ));
    let fine = Some(Said::TurnEnded(AgentStop::EndTurn));
    assert_eq!(
        stops(
            &["errors_as_text"],
            &[&error, &chunk("but then it went on")]
        ),
        fine
    );
    assert_eq!(stops(&[], &[&error]), fine);
}

/// An agent's own words around its error are told from a model's that quote them:
/// by what else was said, and by what was paid.
#[test]
fn an_error_as_text_in_the_agents_own_words_is_a_refusal() {
    let own = |inner: &str| {
        chunk(&format!(
            "Ran into this error: {inner}.\n\nPlease retry if you think this is a transient or recoverable error."
        ))
    };
    let total = |used: i64| json!({"sessionUpdate": "usage_update", "used": used, "size": 128_000});
    let stops = |updates: &[Value]| {
        let mut mapper = mapper(&["errors_as_text", "usage_of_last_call"]);
        // The announcement of a session, and a turn that was paid for.
        for update in [total(0), chunk("fine"), total(9), total(9)] {
            said(&mut mapper, &update);
        }
        mapper.turn_end(&json!({"stopReason": "end_turn"}));
        for update in updates {
            said(&mut mapper, update);
        }
        match mapper.turn_end(&json!({"stopReason": "end_turn"})).pop() {
            Some(Said::TurnEnded(stop)) => stop,
            other => panic!("{other:?}"),
        }
    };
    let refused = |inner: &str| match stops(&[own(inner), total(9)]) {
        AgentStop::Refused { fault, reset } => (fault.class, fault.message, reset),
        other => panic!("{inner}: {other:?}"),
    };
    let (class, message, reset) = refused("Rate limit exceeded: Try again in 2h 5m.");
    assert_eq!(class, FaultClass::Overload);
    assert_eq!(message, "Rate limit exceeded: Try again in 2h 5m");
    assert_eq!(reset, Some(Reset::After(Duration::from_secs(7500))));
    let (class, ..) = refused("Rate limit exceeded: You exceeded your current quota");
    assert_eq!(class, FaultClass::Quota);
    let (class, ..) = refused("Request failed: Bad request (400): no such model");
    assert_eq!(class, FaultClass::BadRequest);

    let inner = "Server error: 503";
    for paid_or_worked in [
        vec![own(inner), total(9), total(11), total(11)],
        vec![chunk("I begin. "), own(inner), total(9)],
        vec![own(inner), own(inner), total(9)],
        vec![chunk("Ran into this error: Server error: 503"), total(9)],
    ] {
        let AgentStop::Error(fault) = stops(&paid_or_worked) else {
            panic!("{paid_or_worked:?}");
        };
        assert!(fault.message.starts_with("suspected failure"), "{fault:?}");
    }
}

#[test]
fn an_error_behind_work_is_no_refusal() {
    let fault = || fault::other("429");
    let stop = |updates: &[Value]| {
        let mut mapper = Mapper::default();
        for update in updates {
            said(&mut mapper, update);
        }
        match mapper
            .turn_failed(fault(), Some(&json!({"retry_after": 3})))
            .pop()
        {
            Some(Said::TurnEnded(stop)) => stop,
            other => panic!("{other:?}"),
        }
    };
    let own_business = json!({"sessionUpdate": "session_info_update", "title": "x"});
    for nothing in [vec![], vec![own_business]] {
        let AgentStop::Refused { reset, .. } = stop(&nothing) else {
            panic!("{nothing:?}");
        };
        assert_eq!(reset, Some(Reset::After(Duration::from_secs(3))));
    }
    for something in [
        chunk("a"),
        json!({"sessionUpdate": "agent_thought_chunk", "content": {"type": "text", "text": "a"}}),
        json!({"sessionUpdate": "tool_call", "toolCallId": "c", "title": "t", "status": "pending"}),
    ] {
        assert!(matches!(stop(&[something]), AgentStop::Error(_)));
    }
}

#[test]
fn a_mode_as_text_is_a_mode_for_a_known_offender_only() {
    let text = chunk("[MODE_UPDATE] yolo");
    assert_eq!(
        said(&mut mapper(&["mode_as_text"]), &text),
        [Said::Mode("yolo".into())]
    );
    assert_eq!(
        said(&mut mapper(&[]), &text),
        [Said::Text("[MODE_UPDATE] yolo".into())]
    );
}

#[test]
fn a_kind_is_read_from_the_title_of_a_known_offenders_own_tools_only() {
    let kind = |quirks: &[&str], title: &str, kind: Value| {
        let update = json!({"sessionUpdate": "tool_call", "toolCallId": "1", "title": title,
            "kind": kind});
        match said(&mut mapper(quirks), &update).pop() {
            Some(Said::Tool(tool)) => tool.kind,
            other => panic!("{other:?}"),
        }
    };
    let other = Some("other".to_owned());
    for (quirks, title, said, read) in [
        (
            &["kind_in_title"][..],
            "write · /p",
            json!("other"),
            Some("edit".to_owned()),
        ),
        (
            &["kind_in_title"],
            "shell · ls",
            Value::Null,
            Some("execute".into()),
        ),
        (
            &["kind_in_title"],
            "write · /p",
            json!("execute"),
            Some("execute".into()),
        ),
        (
            &["kind_in_title"],
            "mail: write · /p",
            json!("other"),
            other.clone(),
        ),
        (&["kind_in_title"], "write", json!("other"), other.clone()),
        (&[], "write · /p", json!("other"), other),
    ] {
        assert_eq!(kind(quirks, title, said), read, "{title}");
    }
}
