// SPDX-License-Identifier: Apache-2.0
//! A block for people.

use std::fmt::Write as _;

use super::{
    report::Report,
    signers::{By, SignerReport},
    transactions::TransactionReport,
};
use crate::commands::{
    printable::{counted, grouped_usize, wrapped},
    table::Table,
};

/// What stands where there is nothing.
const NOTHING: &str = "-";

/// The whole block.
pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    header(&mut out, report);
    metadata(&mut out, report);
    signers(&mut out, report);
    transactions(&mut out, report);
    config(&mut out, report);
    out.truncate(out.trim_end().len());
    out
}

fn header(out: &mut String, report: &Report) {
    let kind = match (report.config_block, report.number) {
        (true, 0) => "genesis block",
        (true, _) => "config block",
        (false, _) => "block",
    };
    let channel = report
        .channel
        .as_deref()
        .filter(|channel| !channel.is_empty());
    let of = channel.map_or(String::new(), |channel| format!(" of {channel}"));
    let _ = writeln!(
        out,
        "{kind} {}{of}, {} bytes, {}",
        report.number,
        grouped_usize(report.bytes),
        counted(report.transactions_total, "transaction", "transactions"),
    );
    let mut table = Table::default();
    let previous = match report.previous_hash.as_str() {
        "" => "none",
        hash => hash,
    };
    let verdict = match report.data_hash_ok {
        Some(true) => "ok",
        Some(false) => "MISMATCH",
        None => "no data to compare",
    };
    table.row(["header hash".to_owned(), report.header_hash.clone()]);
    table.row(["previous hash".to_owned(), previous.to_owned()]);
    table.row([
        "data hash".to_owned(),
        format!("{} {verdict}", report.data_hash),
    ]);
    if let Some(actual) = &report.actual_data_hash {
        table.row(["of the data".to_owned(), actual.clone()]);
    }
    table.write(out, 2);
}

fn metadata(out: &mut String, report: &Report) {
    let metadata = &report.metadata;
    let _ = writeln!(out, "\nmetadata");
    let mut table = Table::default();
    for slot in &metadata.slots {
        table.row([
            slot.index.to_string(),
            slot.name.clone(),
            grouped_usize(slot.bytes),
            slot.content.clone(),
        ]);
    }
    table.write(out, 2);
    if let Some(problem) = &metadata.problem {
        wrapped(out, 2, problem);
    }
}

fn signers(out: &mut String, report: &Report) {
    let by_id = report
        .signers
        .iter()
        .any(|signer| signer.by == By::Consenter);
    let judged = match (&report.judged_by, &report.signers_problem) {
        _ if report.signers_total == 0 => "none".to_owned(),
        (Some(judge), _) => format!("judged by {judge}"),
        (None, Some(problem)) => format!("not judged: {problem}"),
        (None, None) if by_id => "not judged: give --genesis, which says who they are".to_owned(),
        (None, None) => "not judged: give --genesis".to_owned(),
    };
    let _ = writeln!(out);
    wrapped(out, 0, &format!("signers ({judged})"));
    let mut table = Table::default();
    for signer in &report.signers {
        let verdict = match (signer.valid, &signer.problem) {
            (Some(true), _) => "genuine",
            (Some(false), _) | (None, Some(_)) => "NOT VALID",
            (None, None) => "not judged",
        };
        table.row([
            signer.index.to_string(),
            who(signer),
            verdict.to_owned(),
            or_nothing(signer.msp_id.as_deref()),
            or_nothing(signer.subject.as_deref()),
        ]);
    }
    table.write(out, 2);
    for signer in &report.signers {
        if let Some(problem) = &signer.problem {
            wrapped(out, 2, &format!("{}: {problem}", signer.index));
        }
    }
    rest(out, report.signers_total, report.signers.len(), "signers");
}

fn who(signer: &SignerReport) -> String {
    match (signer.by, signer.consenter) {
        (By::Consenter, Some(id)) => format!("consenter {id}"),
        (By::Consenter, None) => "a consenter".to_owned(),
        (By::Certificate, _) => "certificate".to_owned(),
    }
}

fn transactions(out: &mut String, report: &Report) {
    if report.transactions.is_empty() {
        return;
    }
    let _ = writeln!(out, "\ntransactions");
    // Two lines each: an id alone is as long as a line.
    let index_width = report.transactions.len().to_string().len();
    let kinds = report
        .transactions
        .iter()
        .map(|transaction| kind(transaction).chars().count());
    let kind_width = kinds.max().unwrap_or(0);
    let sizes = report
        .transactions
        .iter()
        .map(|transaction| grouped_usize(transaction.bytes).len());
    let size_width = sizes.max().unwrap_or(0);
    for transaction in &report.transactions {
        let _ = writeln!(
            out,
            "  {:index_width$}  {:kind_width$}  {:>size_width$} bytes  {}  {}",
            transaction.index,
            kind(transaction),
            grouped_usize(transaction.bytes),
            or_nothing(transaction.timestamp.as_deref()),
            or_nothing(transaction.channel.as_deref()),
        );
        let mut second = Vec::new();
        second.extend(transaction.tx_id.as_deref().map(|id| format!("id {id}")));
        second.extend(transaction.creator.as_ref().map(|creator| {
            let subject = creator.subject.as_deref();
            let subject = subject.map_or(String::new(), |subject| format!(" [{subject}]"));
            format!("by {}{subject}", creator.msp_id)
        }));
        second.extend(transaction.problem.clone());
        for line in second {
            wrapped(out, index_width + 4, &line);
        }
    }
    rest(
        out,
        report.transactions_total,
        report.transactions.len(),
        "transactions",
    );
}

fn kind(transaction: &TransactionReport) -> &str {
    transaction.kind.as_deref().unwrap_or("unknown")
}

fn config(out: &mut String, report: &Report) {
    if let Some(problem) = &report.config_problem {
        let _ = writeln!(out, "\nconfiguration");
        wrapped(out, 2, &format!("it cannot be used: {problem}"));
    }
    if let Some(config) = &report.config {
        let _ = writeln!(out);
        config.write(out);
    }
}

fn or_nothing(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty())
        .unwrap_or(NOTHING)
        .to_owned()
}

/// Says that a list was cut.
fn rest(out: &mut String, total: usize, listed: usize, what: &str) {
    if total > listed {
        let _ = writeln!(out, "  and {} {what} more", grouped_usize(total - listed));
    }
}
