//! What the demo agent says about itself.

/// The answer to a line that is no instruction.
pub(super) fn text(line: &str, mode: &str, model: &str) -> String {
    let line: String = line.chars().take(200).collect();
    format!(
        "I am Hearth's demo agent (mode {mode}, model {model}). I have no model behind me and follow \
         simple lines, so I cannot answer \"{line}\". Try one of these, one a line:\n\
         \n\
         create haiku.txt with a haiku about tides\n\
         append notes.md with a thought\n\
         rename notes.md to ideas.md\n\
         delete ideas.md\n\
         run ls -l\n\
         ask run make test\n\
         question which colour do you like?\n\
         choose which colour: red | blue\n\
         say hello, think it over, wait 2s, recall, fail on purpose\n"
    )
}
