//! What a policy says to a request.

use hearth_actors::event::{Answer, Ask, AskKind, AskOption, Tool};
use hearth_actors::model::Policy;
use hearth_actors::rules::permission::{Decision, decide, tightened};

use AskKind::{AllowAlways, AllowOnce, RejectAlways, RejectOnce};
use Policy::{AllowAll, AllowEdits, Deny};

/// A request whose option ids say the opposite of what they mean.
fn ask(kind: Option<&str>, options: &[AskKind]) -> Ask {
    let id = |kind| match kind {
        AllowOnce => "reject",
        AllowAlways => "no",
        RejectOnce => "allow",
        RejectAlways => "yes",
        AskKind::Choice | AskKind::Text => "words",
    };
    Ask {
        id: "1".into(),
        tool: Tool {
            kind: kind.map(str::to_owned),
            ..Tool::default()
        },
        question: None,
        options: options
            .iter()
            .map(|&kind| AskOption {
                id: id(kind).into(),
                label: String::new(),
                kind,
            })
            .collect(),
    }
}

fn option(id: &str) -> Decision {
    Decision::Answer(Answer::Option(id.into()))
}

#[test]
fn every_policy_meets_every_kind_of_tool() {
    let all = [RejectAlways, AllowAlways, RejectOnce, AllowOnce];
    for kind in [
        "read", "edit", "delete", "move", "search", "execute", "think", "fetch", "other",
    ] {
        let ask = ask(Some(kind), &all);
        let edits = matches!(kind, "edit" | "delete" | "move");
        assert_eq!(decide(AllowAll, &ask), option("reject"), "{kind}");
        assert_eq!(decide(Deny, &ask), option("allow"), "{kind}");
        assert_eq!(decide(Policy::Ask, &ask), Decision::Human, "{kind}");
        let expected = if edits {
            option("reject")
        } else {
            Decision::Human
        };
        assert_eq!(decide(AllowEdits, &ask), expected, "{kind}");
    }
    assert_eq!(decide(AllowEdits, &ask(None, &all)), Decision::Human);
}

#[test]
fn a_single_answer_is_preferred_and_the_wrong_meaning_never_taken() {
    let withdrawn = Decision::Answer(Answer::Cancelled);
    for (policy, offered, decision) in [
        (AllowAll, &[AllowAlways, AllowOnce][..], option("reject")),
        (AllowAll, &[AllowAlways, RejectOnce], option("no")),
        (AllowAll, &[RejectOnce, RejectAlways], withdrawn.clone()),
        (AllowAll, &[], withdrawn.clone()),
        (Deny, &[RejectAlways, RejectOnce], option("allow")),
        (Deny, &[RejectAlways, AllowOnce], option("yes")),
        (Deny, &[AllowOnce, AllowAlways], withdrawn.clone()),
        (Deny, &[], withdrawn),
    ] {
        assert_eq!(
            decide(policy, &ask(Some("edit"), offered)),
            decision,
            "{offered:?}"
        );
    }
}

#[test]
fn a_task_may_tighten_and_never_loosen() {
    let policies = [Deny, Policy::Ask, AllowEdits, AllowAll];
    for (strictness, &agent) in policies.iter().enumerate() {
        assert_eq!(tightened(agent, None), agent);
        for (other, &task) in policies.iter().enumerate() {
            assert_eq!(
                tightened(agent, Some(task)),
                policies[strictness.min(other)]
            );
        }
    }
}
