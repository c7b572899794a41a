//! Hearth.

use hearth::process;

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments
        .next()
        .is_some_and(|first| first == process::SHIM_COMMAND)
    {
        process::shim_main(arguments);
    }
}
