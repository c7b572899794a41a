//! What an agent is told that goes on, and when an answer is given again.

use hearth_actors::event::{Ask, AskKind, AskOption, Tool, ToolStatus};
use hearth_actors::prompt::Given;
use hearth_actors::rules::going_on::{MARK, answer_again, message};
use hearth_actors::rules::permission::shown;
use proptest::prelude::*;
use serde_json::{Value, json};

fn option(id: &str, kind: AskKind) -> AskOption {
    AskOption {
        id: id.into(),
        label: id.into(),
        kind,
    }
}

fn ask(input: Value) -> Ask {
    Ask {
        id: "1".into(),
        tool: Tool {
            id: "call-1".into(),
            title: Some("run make".into()),
            kind: Some("execute".into()),
            status: Some(ToolStatus::Pending),
            input: Some(input),
            ..Tool::default()
        },
        question: None,
        options: vec![
            option("yes", AskKind::AllowOnce),
            option("no", AskKind::RejectOnce),
        ],
    }
}

fn given(ask: &Ask, answer: &str) -> Given {
    let answer = ask.options.iter().find(|option| option.id == answer);
    Given {
        request: shown(ask),
        answer: answer.cloned(),
    }
}

fn again(ask: &Ask, given: &Given) -> Option<String> {
    answer_again(ask, given).map(|answer| answer.id)
}

#[test]
fn the_same_request_gets_the_same_answer() {
    let first = ask(json!({"command": "make"}));
    let mut second = first.clone();
    second.id = "7".into();
    second.tool.id = "call-9".into();
    second.tool.status = None;
    assert_eq!(again(&second, &given(&first, "yes")), Some("yes".into()));
    assert_eq!(again(&second, &given(&first, "no")), Some("no".into()));
    assert_eq!(again(&second, &given(&first, "nothing")), None);
}

#[test]
fn another_request_is_asked_anew() {
    let first = ask(json!({"command": "make"}));
    let yes = given(&first, "yes");
    let changes: [fn(&mut Ask); 7] = [
        |ask| ask.tool.input = Some(json!({"command": "make install"})),
        |ask| ask.tool.input = None,
        |ask| ask.tool.kind = Some("edit".into()),
        |ask| ask.tool.title = Some("run it".into()),
        |ask| ask.tool.locations = vec!["/etc".into()],
        |ask| ask.options[0].id = "other".into(),
        |ask| ask.options[0].kind = AskKind::AllowAlways,
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut other = first.clone();
        change(&mut other);
        assert_eq!(again(&other, &yes), None, "change {index}");
    }
}

#[test]
fn what_was_cut_is_never_the_same() {
    let cut = ask(json!({"truncated": true, "bytes": 90000, "head": "abc"}));
    assert_eq!(again(&cut, &given(&cut, "yes")), None);
    let huge = ask(json!({"command": "x".repeat(100_000)}));
    assert_eq!(shown(&huge)["truncated"], true);
    assert_eq!(again(&huge, &given(&huge, "yes")), None);
    let mut long = ask(json!({}));
    long.tool.title = Some("x".repeat(3000));
    assert_eq!(again(&long, &given(&long, "yes")), None);
}

#[test]
fn words_are_given_again_as_they_were() {
    let mut question = ask(Value::Null);
    question.question = Some("Which colour?".into());
    question.options = vec![option("text", AskKind::Text)];
    let answer = AskOption {
        label: "deep blue".into(),
        ..option("text", AskKind::Text)
    };
    let given = Given {
        request: shown(&question),
        answer: Some(answer.clone()),
    };
    assert_eq!(answer_again(&question, &given), Some(answer));
    let mut other = question.clone();
    other.question = Some("Which size?".into());
    assert_eq!(answer_again(&other, &given), None);
    assert!(
        message("x", &[given])
            .contains("The question \"Which colour?\": the answer is \"deep blue\".")
    );
}

#[test]
fn the_message_tells_what_was_answered() {
    let first = ask(json!({"command": "make"}));
    let given = ["yes", "no", "-"].map(|answer| given(&first, answer));
    let text = message("make it\nthen run it", &given);
    insta::assert_snapshot!(text);
}

proptest! {
    /// It fits into a prompt, whatever was asked, and keeps its lines.
    #[test]
    fn the_message_is_bounded(
        request in "(?s).{0,12000}",
        title in ".{0,3000}",
        label in ".{0,3000}",
        many in 0usize..33,
    ) {
        let mut asked = ask(json!({}));
        asked.tool.title = Some(title);
        asked.options[0].label = label;
        let text = message(&request, &vec![given(&asked, "yes"); many]);
        prop_assert!(text.starts_with(MARK));
        prop_assert!(text.chars().count() < 64_000);
        let numbered = text.lines().filter(|line| line.contains(". Consent to \""));
        prop_assert!(numbered.count() >= many);
    }
}
