// SPDX-License-Identifier: Apache-2.0
//! The fields of every message as Rust: what its wire type has to be for Go to know a field.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context, Result, bail};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

/// A message, and how Rust names it.
struct Message<'a> {
    path: String,
    descriptor: &'a DescriptorProto,
}

/// By their full names, with the dot in front with which fields refer to them.
type Messages<'a> = BTreeMap<String, Message<'a>>;

/// An implementation of `Described` for every message, sorted by name. `module_of` is the module of
/// a package.
///
/// # Errors
///
/// If a message is of a package without a module, or a field of a type without a wire type.
pub(crate) fn implementations(
    descriptors: &FileDescriptorSet,
    module_of: impl Fn(&str) -> Option<&'static str>,
) -> Result<String> {
    let mut messages = Messages::new();
    for file in &descriptors.file {
        let package = file.package();
        let path = match package {
            "google.protobuf" => "::prost_types".to_owned(),
            _ => module_of(package)
                .map(|module| format!("crate::{module}"))
                .with_context(|| format!("the package {package} has no module"))?,
        };
        for message in &file.message_type {
            collect(message, &format!(".{package}"), &path, &mut messages);
        }
    }
    let mut code = "use crate::described::{Described, Field, Kind};\n".to_owned();
    for message in messages.values().filter(|message| !is_entry(message)) {
        let fields = fields(message.descriptor, &messages, 2)?;
        write!(
            code,
            "\nimpl Described for {} {{\n    fn fields() -> &'static [Field] {{\n        &{fields}\n    }}\n}}\n",
            message.path
        )?;
    }
    Ok(code)
}

fn collect<'a>(
    message: &'a DescriptorProto,
    within: &str,
    path: &str,
    messages: &mut Messages<'a>,
) {
    let name = format!("{within}.{}", message.name());
    let rust_name = upper_camel(message.name());
    let inner = format!("{path}::{}", snake(&rust_name));
    for nested in &message.nested_type {
        collect(nested, &name, &inner, messages);
    }
    let message = Message {
        path: format!("{path}::{rust_name}"),
        descriptor: message,
    };
    messages.insert(name, message);
}

/// Whether it is an entry of a map, for which there is no type in Rust.
fn is_entry(message: &Message<'_>) -> bool {
    let options = message.descriptor.options.as_ref();
    options.is_some_and(|options| options.map_entry())
}

fn fields(message: &DescriptorProto, messages: &Messages<'_>, depth: usize) -> Result<String> {
    if message.field.is_empty() {
        return Ok("[]".to_owned());
    }
    let indent = "    ".repeat(depth);
    let mut code = "[\n".to_owned();
    for field in &message.field {
        writeln!(
            code,
            "{indent}    Field {{ number: {}, kind: {}, repeated: {} }},",
            field.number(),
            kind(field, messages, depth + 1).with_context(|| format!(
                "field {} of {}",
                field.name(),
                message.name()
            ))?,
            field.label() == Label::Repeated,
        )?;
    }
    write!(code, "{indent}]")?;
    Ok(code)
}

fn kind(field: &FieldDescriptorProto, messages: &Messages<'_>, depth: usize) -> Result<String> {
    let kind = match field.r#type() {
        Type::Int32
        | Type::Int64
        | Type::Uint32
        | Type::Uint64
        | Type::Sint32
        | Type::Sint64
        | Type::Bool
        | Type::Enum => "Kind::Varint",
        Type::Fixed32 | Type::Sfixed32 | Type::Float => "Kind::Fixed32",
        Type::Fixed64 | Type::Sfixed64 | Type::Double => "Kind::Fixed64",
        Type::Bytes | Type::String => "Kind::Bytes",
        Type::Message => {
            let message = messages
                .get(field.type_name())
                .with_context(|| format!("there is no message {}", field.type_name()))?;
            return Ok(if is_entry(message) {
                let fields = fields(message.descriptor, messages, depth)?;
                format!("Kind::Message(|| &{fields})")
            } else {
                format!("Kind::Message({}::fields)", message.path)
            });
        }
        Type::Group => bail!("groups are not generated"),
    };
    Ok(kind.to_owned())
}

/// A message's name as prost writes it: of letters that stand together as capitals, only the first
/// of a word stays one.
fn upper_camel(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (index, letter) in letters.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| letters.get(before));
        let after = letters.get(index + 1);
        let begins_word = before.is_none_or(|before| !before.is_ascii_uppercase())
            || after.is_some_and(char::is_ascii_lowercase);
        out.push(if begins_word {
            *letter
        } else {
            letter.to_ascii_lowercase()
        });
    }
    out
}

/// The name of the module with a message's inner types.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_prost() {
        for (name, rust_name) in [
            ("MSPPrincipal", "MspPrincipal"),
            ("FabricOUIdentifier", "FabricOuIdentifier"),
            ("FabricNodeOUs", "FabricNodeOUs"),
            ("NOutOf", "NOutOf"),
            ("ChaincodeID", "ChaincodeId"),
        ] {
            assert_eq!(upper_camel(name), rust_name);
        }
        assert_eq!(snake("SignaturePolicy"), "signature_policy");
    }

    #[test]
    fn a_package_without_a_module_is_an_error() {
        let descriptors = FileDescriptorSet {
            file: vec![prost_types::FileDescriptorProto {
                package: Some("elsewhere".to_owned()),
                ..Default::default()
            }],
        };
        let error = implementations(&descriptors, |_| None).unwrap_err();
        assert!(error.to_string().contains("elsewhere"), "{error}");
    }
}
