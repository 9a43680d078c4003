// SPDX-License-Identifier: Apache-2.0
//! A Deliver and Broadcast client for Hyperledger Fabric ordering services.
#![doc = include_str!("../README.md")]

mod broadcast;
mod by_message;
mod client;
mod config;
mod connect_any;
mod connection;
mod connector;
mod failure;
mod pem;
mod seek;
mod stream;
mod targets;
mod tls;

pub use self::{
    broadcast::{BroadcastAck, BroadcastSession},
    client::OrdererClient,
    config::{AddressOverride, Config, ConfigError, ErrorResponse, NotTaken, OrdererEndpoint, Tls},
    connect_any::AllEndpointsFailed,
    connection::Loss,
    connector::{Connector, Io, TcpConnector},
    failure::TransportError,
    pem::{PemError, parse_pem_certificates, parse_pem_key},
};
