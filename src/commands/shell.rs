//! `completions` and `man`: what the command line says of itself, for packagers and shells.

use std::io::Write;

use clap::CommandFactory;

use super::Outcome;
use crate::cli::Cli;

pub(super) fn completions(shell: clap_complete::Shell, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "healthex-sync", &mut text);
    out.write_all(&text)?;
    Ok(Outcome::Done)
}

/// One page with every command: what `man healthex-sync` is asked for.
pub(super) fn man(out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let mut command = Cli::command();
    command.build();
    let page = clap_mangen::Man::new(command.clone());
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    page.render_options_section(out)?;
    writeln!(out, ".SH COMMANDS")?;
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let name = verb.get_name().replace('-', "\\-");
        writeln!(out, ".SS {name}")?;
        let about = verb.get_long_about().or(verb.get_about()).map(ToString::to_string).unwrap_or_default();
        writeln!(out, "{}", escaped(&about))?;
        for argument in
            verb.get_arguments().filter(|argument| !argument.is_global_set() && argument.get_id() != "help")
        {
            let long = argument.get_long().map(|long| format!("--{long}"));
            let name = long.unwrap_or_else(|| argument.get_id().to_string().to_uppercase());
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            writeln!(out, ".TP\n\\fB{}\\fR\n{}", escaped(&name), escaped(&help))?;
        }
    }
    writeln!(
        out,
        ".SH FILES\n.TP\n/etc/healthex\\-sync/healthex\\-sync.toml\nThe configuration; `healthex\\-sync init` writes one with every key."
    )?;
    Ok(Outcome::Done)
}

/// A leading dot or quote begins a request of roff, and a plain dash is a hyphen to it.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
