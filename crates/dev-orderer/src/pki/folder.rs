// SPDX-License-Identifier: Apache-2.0
//! The files of an MSP folder, in the layout of Fabric's own tools.

use super::{Certificates, Member, Organization, Role};

/// A file to be written: its path, with slashes and relative to a folder of the writer's choice,
/// and its content.
pub type File = (String, Vec<u8>);

/// The verifying MSP of an organisation: `cacerts`, `tlscacerts`, `config.yaml`.
pub(super) fn verifying_msp(authorities: &Certificates, prefix: &str) -> Vec<File> {
    let domain = &authorities.domain;
    let ca = format!("cacerts/ca.{domain}-cert.pem");
    let config = node_ous(&ca);
    vec![
        (
            format!("{prefix}{ca}"),
            authorities.ca_pem.clone().into_bytes(),
        ),
        (
            format!("{prefix}tlscacerts/tlsca.{domain}-cert.pem"),
            authorities.tls_pem().into_bytes(),
        ),
        (format!("{prefix}config.yaml"), config.into_bytes()),
    ]
}

/// A member's `msp` and `tls` folders.
pub(super) fn member(member: &Member, prefix: &str) -> Vec<File> {
    let mut files = verifying_msp(member.authorities(), &format!("{prefix}msp/"));
    let qualified = member.qualified_name();
    files.push((
        format!("{prefix}msp/signcerts/{qualified}-cert.pem"),
        member.certificate_pem().into(),
    ));
    files.push((
        format!("{prefix}msp/keystore/priv_sk"),
        member.key_pem().into(),
    ));
    let side = match member.role() {
        Role::Client | Role::Admin => "client",
        Role::Peer | Role::Orderer => "server",
    };
    files.push((
        format!("{prefix}tls/ca.crt"),
        member.authorities().tls_pem().into_bytes(),
    ));
    files.push((
        format!("{prefix}tls/{side}.crt"),
        member.tls_certificate_pem().into(),
    ));
    files.push((
        format!("{prefix}tls/{side}.key"),
        member.tls_key_pem().into(),
    ));
    files
}

/// An organisation's verifying MSP and all of its members.
pub(super) fn organization(organization: &Organization) -> Vec<File> {
    let name = organization.name().to_lowercase();
    let mut files = verifying_msp(&organization.authorities, &format!("{name}/msp/"));
    for (member_name, issued) in organization.members() {
        files.extend(member(issued, &format!("{name}/{member_name}/")));
    }
    files
}

fn node_ous(ca: &str) -> String {
    let mut yaml = String::from("NodeOUs:\n    Enable: true\n");
    for role in Role::ALL {
        let unit = role.unit();
        let (first, rest) = unit.split_at(1);
        yaml.push_str(&format!(
            "    {}{rest}OUIdentifier:\n        Certificate: {ca}\n        OrganizationalUnitIdentifier: {unit}\n",
            first.to_uppercase(),
        ));
    }
    yaml
}
