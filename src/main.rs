//! Hearth.

use hearth::{backends::demo, process};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next();
    if first
        .as_ref()
        .is_some_and(|first| *first == process::SHIM_COMMAND)
    {
        process::shim_main(arguments);
    }
    if first.is_some_and(|first| first == demo::COMMAND) {
        return demo::main();
    }
    Ok(())
}
