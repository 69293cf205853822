//! How answers are shown: tables for people, proto3 JSON and its YAML for programs.

mod table;

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::LazyLock,
};

use clap::ValueEnum;
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use terminal_size::{Width, terminal_size_of};

pub(crate) use table::{Table, age, bytes, labels, milliseconds, one_line};

use table::Screen;

use crate::failure::Failure;

/// `--output`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// The API's messages with their proto3 JSON names, every field present.
    Json,
    /// The same as YAML.
    Yaml,
}

/// Fields that are empty are there too, so that programs need not guess names.
const JSON: SerializeOptions = SerializeOptions::new().skip_default_fields(false);

static MESSAGES: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(cladnet_proto::DESCRIPTORS).expect("our own descriptors are well formed"));

/// Writes to standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
    screen: Screen,
}

impl Output {
    /// Plain tables unless a person looks on and has not asked for plainness (`NO_COLOR`, <https://no-color.org>).
    pub(crate) fn new(format: Format) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_watched = io::stdout().is_terminal();
        let width = terminal_size_of(io::stdout()).map(|(Width(width), _)| width);
        Self { format, screen: Screen { ruled: is_watched && !plain, width: width.filter(|_| is_watched) } }
    }

    pub(crate) fn format(self) -> Format {
        self.format
    }

    /// One message, or the table that says the same to people.
    pub(crate) fn show<M: Message + Name>(self, message: &M, table: impl FnOnce(&M) -> Table) -> Result<(), Failure> {
        self.show_text(message, |message| table(message).render(self.screen))
    }

    /// One message, or a text of several tables and lines.
    pub(crate) fn show_text<M: Message + Name>(
        self,
        message: &M,
        text: impl FnOnce(&M) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => print(&text(message)),
            Format::Json => {
                print(&serialize(message, |value| serde_json::to_string_pretty(value).map_err(|e| e.to_string()))?)
            }
            Format::Yaml => {
                print(&serialize(message, |value| serde_norway::to_string(value).map_err(|e| e.to_string()))?)
            }
        }
    }

    /// One message of a stream that does not end: a line of text, a line of JSON, or a YAML document.
    pub(crate) fn show_next<M: Message + Name>(
        self,
        message: &M,
        line: impl FnOnce(&M) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => print(&line(message)),
            Format::Json => {
                print(&serialize(message, |value| serde_json::to_string(value).map_err(|e| e.to_string()))?)
            }
            Format::Yaml => print(&serialize(message, |value| {
                serde_norway::to_string(value).map(|text| format!("---\n{text}")).map_err(|e| e.to_string())
            })?),
        }
    }

    /// What was done, for a person; a program has the exit code.
    pub(crate) fn say(self, sentence: &str) -> Result<(), Failure> {
        match self.format {
            Format::Table => print(sentence),
            Format::Json | Format::Yaml => Ok(()),
        }
    }

    /// A text as it is, whatever the format: a document to be read back.
    pub(crate) fn write(self, text: &str) -> Result<(), Failure> {
        print(text)
    }

    /// A sentence of which no word is cut in two at the edge of a terminal.
    pub(crate) fn sentence(self, text: &str) -> String {
        let mut line = Table::new([""; 0], "").ending_in_prose();
        line.row([text.to_owned()]);
        line.render(Screen { ruled: false, ..self.screen })
    }

    /// A table as it would be shown, for texts of several.
    pub(crate) fn render(self, table: Table) -> String {
        table.render(self.screen)
    }
}

/// A value that prost-reflect writes as proto3 JSON wants it.
struct Canonical(DynamicMessage);

impl serde::Serialize for Canonical {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize_with_options(serializer, &JSON)
    }
}

fn serialize<M: Message + Name>(
    message: &M,
    write: impl FnOnce(&Canonical) -> Result<String, String>,
) -> Result<String, Failure> {
    let descriptor = MESSAGES.get_message_by_name(&M::full_name()).expect("every message is described");
    DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|error| error.to_string())
        .and_then(|dynamic| write(&Canonical(dynamic)))
        .map_err(|error| Failure::failed(format!("cannot write the answer: {error}")))
}

/// A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.trim_end_matches('\n').as_bytes())
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use cladnet_proto::cladnet::v1::{ControlPeersResponse, ControlResult, Network};

    use super::*;

    #[test]
    fn json_has_the_names_of_the_api_and_every_field() {
        let network = Network { network_id: "prod".into(), generation: 3, ..Network::default() };
        let json = serialize(&network, |value| serde_json::to_string(value).map_err(|e| e.to_string())).unwrap();
        for part in [r#""networkId":"prod""#, r#""generation":"3""#, r#""description":"""#, r#""peerCount":0"#] {
            assert!(json.contains(part), "{part} in {json}");
        }
    }

    #[test]
    fn yaml_says_the_same() {
        let results =
            vec![ControlResult { host_id: "host-a".into(), outcome: "offline".into(), detail: String::new() }];
        let yaml =
            serialize(&ControlPeersResponse { results }, |v| serde_norway::to_string(v).map_err(|e| e.to_string()));
        assert_eq!(yaml.unwrap(), "results:\n- hostId: host-a\n  outcome: offline\n  detail: ''\n");
    }

    /// The serializers escape what no text of theirs may hold; all else, which tables spell out, programs get as it is.
    #[test]
    fn programs_get_the_texts_of_others_as_they_are_with_control_characters_escaped() {
        let controls: String = (1..0x20).chain(0x7f..0xa0).filter_map(char::from_u32).collect();
        let network = Network { name: format!("{controls}safe\u{202e}gnp \u{2066}שרת"), ..Network::default() };
        let json = serialize(&network, |value| serde_json::to_string(value).map_err(|e| e.to_string())).unwrap();
        let yaml = serialize(&network, |value| serde_norway::to_string(value).map_err(|e| e.to_string())).unwrap();
        let read: [serde_json::Value; 2] =
            [serde_json::from_str(&json).unwrap(), serde_norway::from_str(&yaml).unwrap()];
        for (text, read) in [json, yaml.replace('\n', "")].iter().zip(read) {
            assert_eq!(read["name"], network.name, "{text:?}");
            assert!(!text.contains(|c: char| c < ' '), "{text:?}");
            assert!(text.contains("safe\u{202e}gnp \u{2066}שרת"), "{text:?}");
        }
    }
}
