//! People at the command line.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::harness::{SOON, repository_at};
use super::*;

#[tokio::test]
async fn a_person_sees_and_answers_at_the_command_line() {
    let service = Service::start().await;
    let chat = service.chat().await;
    assert_eq!(hearth(&service, &["inbox"]).await, "nothing needs you\n");
    let (task, prompt) = ask(&service, &chat).await;
    let id = id_of(&prompt);
    let short = &id[id.len() - 8..];
    let listed = hearth(&service, &["prompts"]).await;
    assert!(
        listed.contains(short) && listed.contains("may I?"),
        "{listed}"
    );
    let listed = hearth(&service, &["inbox"]).await;
    assert!(
        listed.contains(&format!("hearth answer {short} allow|deny")),
        "{listed}"
    );
    assert!(!listed.contains("blocked"), "told twice: {listed}");
    let said = hearth(&service, &["answer", short, "deny"]).await;
    assert_eq!(said, "may I?: Reject\n");
    assert_eq!(service.outcome(&task).await, "ok");
    assert!(service.answers(&chat).await[0].contains("Refused (reject_once)"));
    let row = service.get(&format!("/api/prompts/{id}")).await;
    assert_eq!(row["answered_by"], "cli");

    let failed = service.say(&chat, "fail boom").await;
    assert_eq!(service.outcome(&failed).await, "agent_error");
    let json: Value = serde_json::from_str(&hearth(&service, &["inbox", "--json"]).await).unwrap();
    assert_eq!(json[0]["id"], format!("task:{failed}"));
    let said = hearth(&service, &["retry", &failed[failed.len() - 8..]]).await;
    let again = said.trim().rsplit(' ').next().unwrap();
    assert_eq!(service.outcome(again).await, "agent_error");
    hearth(&service, &["dismiss", &format!("task:{again}")]).await;
    assert_eq!(hearth(&service, &["inbox"]).await, "nothing needs you\n");
}

#[tokio::test]
async fn a_run_on_a_terminal_asks_at_once() {
    let service = Service::start().await;
    let repository = service.home.parent().unwrap().join("typed");
    repository_at(&repository);
    let question = "[y]es, [n]o, [a]lways: ";
    let screen = typed(&service, &repository, "ask may I?", question, "what\ny");
    let screen = tokio::time::timeout(SOON, screen).await.expect("an end");
    assert!(screen.contains("Allowed (allow_once): may I?"), "{screen}");
    let prompts = service.get("/api/prompts").await;
    assert_eq!(prompts["items"][0]["answered_by"], "cli", "{prompts}");
}

/// What the screen of a `hearth run` of this prompt shows, which must end well,
/// when these lines are typed, each behind the question that it shows once more.
pub(super) async fn typed(
    service: &Service,
    repository: &std::path::Path,
    prompt: &str,
    question: &str,
    lines: &str,
) -> String {
    let typed = command(&service.home, &service.database());
    let program = typed.as_std().get_program().to_owned();
    // A terminal of its own, with our pipe as its keyboard.
    let mut terminal = tokio::process::Command::new("script");
    let line = format!("{} run --agent demo '{prompt}'", program.to_str().unwrap());
    let environment = typed.as_std().get_envs();
    terminal
        .args(["-qec", &line, "/dev/null"])
        .env_clear()
        .envs(environment.filter_map(|(key, value)| Some((key, value?))))
        .env("SHELL", "/bin/sh")
        .current_dir(repository)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut terminal = terminal.spawn().unwrap();
    let mut keyboard = terminal.stdin.take().unwrap();
    let mut screen = terminal.stdout.take().unwrap();
    let mut lines = lines.lines();
    let (mut seen, mut asked, mut buffer) = (Vec::new(), 0, [0; 1024]);
    loop {
        let read = screen.read(&mut buffer).await.unwrap();
        if read == 0 {
            break;
        }
        seen.extend_from_slice(&buffer[..read]);
        let questions = String::from_utf8_lossy(&seen).matches(question).count();
        while asked < questions {
            asked += 1;
            if let Some(line) = lines.next() {
                keyboard
                    .write_all(format!("{line}\n").as_bytes())
                    .await
                    .unwrap();
            }
        }
    }
    let seen = String::from_utf8_lossy(&seen).into_owned();
    assert!(terminal.wait().await.unwrap().success(), "{seen}");
    seen
}

#[tokio::test]
async fn a_run_without_a_terminal_tells_how_to_answer() {
    // Where the agent's policy is `ask` nobody is asked; here a command is.
    let config = "[agents.demo]\npermission = \"allow_edits\"\n";
    let service = Service::with_config(Some(config)).await;
    let repository = service.home.parent().unwrap().join("piped");
    repository_at(&repository);
    let mut run = command(&service.home, &service.database());
    run.args(["run", "--agent", "demo", "ask may I?"])
        .current_dir(&repository)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let run = run.spawn().unwrap();
    let prompt = service
        .until("an open prompt", async || {
            let page = service.get("/api/prompts?state=open").await;
            let prompt = page["items"]
                .as_array()
                .and_then(|items| items.first().cloned());
            prompt.ok_or(page)
        })
        .await;
    let (status, _) = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
    assert_eq!(status, 200);
    let done = run.wait_with_output().await.unwrap();
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{told}");
    let id = id_of(&prompt);
    let how = format!(
        "answer with: hearth answer {} allow|deny",
        &id[id.len() - 8..]
    );
    assert!(told.contains(&how), "{told}");
    assert!(told.contains("answer: Allow"), "{told}");
}
