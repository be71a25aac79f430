//! The README's table of settings is what the program says.

use std::fmt::Write;

use email_dispatch::{cli::Cli, settings::environment_name};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
const BEGIN: &str =
    "<!-- settings: written by `EMAIL_DISPATCH_UPDATE_README=1 cargo test -p email-dispatch --test parts readme` -->\n";
const END: &str = "<!-- end of settings -->\n";

/// A table for each heading of the help, in its order.
fn tables() -> String {
    let (mut tables, mut heading) = (String::new(), None);
    for arg in Cli::definition().get_arguments() {
        let name = arg.get_id().as_str();
        if heading.as_deref() != Some(arg.get_help_heading().unwrap_or_default()) {
            heading = Some(arg.get_help_heading().unwrap_or_default().to_owned());
            let title = heading.as_deref().filter(|title| !title.is_empty()).unwrap_or("The file of settings");
            _ = write!(
                tables,
                "\n**{title}**\n\n| flag | environment | in the file | default | meaning |\n|---|---|---|---|---|\n"
            );
        }
        let in_file = if name == "config" { String::new() } else { format!("`{}`", name.replacen('-', ".", 1)) };
        let default = arg.get_default_values().first().map(|value| value.to_string_lossy()).unwrap_or_default();
        let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
        let help = arg.get_long_help().unwrap().to_string();
        let meaning = help.split("\n[env: ").next().unwrap().replace('|', "\\|").replace('<', "&lt;");
        let variable = environment_name(name);
        _ = writeln!(tables, "| `--{name}` | `{variable}` | {in_file} | {default} | {meaning} |");
    }
    tables + "\n"
}

#[test]
fn the_table_of_settings_is_what_the_program_knows() {
    let readme = std::fs::read_to_string(README).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the line before the settings");
    let (found, after) = rest.split_once(END).expect("the line after the settings");
    let expected = tables();
    if std::env::var_os("EMAIL_DISPATCH_UPDATE_README").is_some() {
        std::fs::write(README, [before, BEGIN, &expected, END, after].concat()).unwrap();
        return;
    }
    let how = "EMAIL_DISPATCH_UPDATE_README=1 writes it anew";
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected, "{how}");
    }
    assert_eq!(found.lines().count(), expected.lines().count(), "{how}");
}
