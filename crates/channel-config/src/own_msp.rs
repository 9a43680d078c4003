// SPDX-License-Identifier: Apache-2.0
//! Who belongs to the organisation of this node, and may pull for it.

use block_api::{Kinship, OwnOrganisation};

use crate::{
    config::ChannelConfig,
    msp::{Role, SerializedIdentity},
    verifier::{ChannelVerifier, SharedHistory},
};

/// Tells the identities of one organisation from others, by the newest configuration of a channel's
/// verifier.
///
/// By default those pull that its MSP counts as peers, and every valid identity of an MSP that does
/// not tell its peers apart. Judging an identity again costs little: MSPs remember a bounded number.
#[derive(Debug, Clone)]
pub struct OwnMsp {
    history: SharedHistory,
    msp_id: Box<str>,
    pullers: Option<Role>,
}

impl OwnMsp {
    /// The organisation with this MSP id in the channel of a verifier.
    pub fn new(verifier: &ChannelVerifier, msp_id: &str) -> Self {
        Self {
            history: verifier.history().clone(),
            msp_id: msp_id.into(),
            pullers: None,
        }
    }

    /// The organisation that a marshalled identity claims to be of, as a rule one's own. Bytes that
    /// are none belong to nobody, and so has it no members.
    pub fn of_identity(verifier: &ChannelVerifier, identity: &[u8]) -> Self {
        let claimed = SerializedIdentity::parse(identity).map_or("", |parts| parts.msp_id);
        Self::new(verifier, claimed)
    }

    /// The same, except that those pull who satisfy this role ([`Role::Member`]: everyone).
    #[must_use]
    pub fn pulled_by(self, role: Role) -> Self {
        Self {
            pullers: Some(role),
            ..self
        }
    }

    /// Whether the newest configuration has the organisation.
    pub fn is_in_channel(&self) -> bool {
        let history = self.history.snapshot();
        history.newest().config.msps().get(&self.msp_id).is_some()
    }

    fn judge(&self, config: &ChannelConfig, identity: &[u8]) -> Kinship {
        let Ok(claimed) = SerializedIdentity::parse(identity) else {
            return Kinship::Stranger;
        };
        let Some(msp) = config
            .msps()
            .get(&self.msp_id)
            .filter(|_| *claimed.msp_id == *self.msp_id)
        else {
            return Kinship::Stranger;
        };
        let Ok(identity) = msp.identity(claimed.credential) else {
            return Kinship::Stranger;
        };
        if !identity.is_valid() {
            return Kinship::Stranger;
        }
        let roles = identity.roles();
        let default = match msp.tells_peers() {
            true => Role::Peer,
            false => Role::Member,
        };
        let pulls = match self.pullers.unwrap_or(default) {
            Role::Client => roles.client,
            Role::Peer => roles.peer,
            Role::Admin => roles.admin,
            Role::Orderer => roles.orderer,
            Role::Member => true,
        };
        match pulls {
            true => Kinship::Puller,
            false => Kinship::Member,
        }
    }
}

impl OwnOrganisation for OwnMsp {
    fn kinship(&self, identity: &[u8]) -> Kinship {
        let history = self.history.snapshot();
        self.judge(&history.newest().config, identity)
    }

    fn generation(&self) -> u64 {
        self.history.snapshot().applied()
    }
}

#[cfg(test)]
mod tests {
    use block_api::{Block, BlockNumber, BlockVerifier, Standing, VerifiedBlock};
    use prost::Message as _;
    use protos::msp::{FabricMspConfig, MspConfig};

    use super::*;
    use crate::test_support::{
        TestSigner, block, chain, config_entry, config_of, group,
        pki::{TestCa, msp_config},
        set_value,
    };

    fn identity(folder: &str, msp_id: &str) -> Vec<u8> {
        TestSigner::of_fixture(folder, msp_id).identity
    }

    fn verifier() -> ChannelVerifier {
        ChannelVerifier::from_genesis(&block("raft/block_0.pb")).unwrap()
    }

    #[test]
    fn peers_of_the_own_organisation_pull() {
        let verifier = verifier();
        let own = OwnMsp::new(&verifier, "Org1MSP");
        let rows = [
            ("org1/peer0", "Org1MSP", Kinship::Puller),
            ("org1/user1", "Org1MSP", Kinship::Member),
            ("org1/admin", "Org1MSP", Kinship::Member),
            ("org2/peer0", "Org2MSP", Kinship::Stranger),
            ("org2/peer0", "Org1MSP", Kinship::Stranger),
            ("org1/peer0", "Org2MSP", Kinship::Stranger),
            ("org1/peer0", "NoMSP", Kinship::Stranger),
        ];
        for (folder, msp_id, kinship) in rows {
            let identity = identity(folder, msp_id);
            assert_eq!(own.kinship(&identity), kinship, "{folder} as {msp_id}");
        }
        for nonsense in [&b""[..], b"\xff", b"\x0a\x07Org1MSP"] {
            assert_eq!(own.kinship(nonsense), Kinship::Stranger);
        }
        assert!(own.is_in_channel());
        let elsewhere = OwnMsp::new(&verifier, "NoMSP");
        assert!(!elsewhere.is_in_channel());
        assert_eq!(
            elsewhere.kinship(&identity("org1/peer0", "NoMSP")),
            Kinship::Stranger
        );
    }

    #[test]
    fn the_role_of_pullers_is_a_setting() {
        let verifier = verifier();
        let own = OwnMsp::of_identity(&verifier, &identity("org1/user1", "Org1MSP"));
        let rows = [
            (Role::Client, [true, false, false]),
            (Role::Peer, [false, true, false]),
            (Role::Admin, [false, false, true]),
            (Role::Orderer, [false, false, false]),
            (Role::Member, [true, true, true]),
        ];
        for (role, pull) in rows {
            let own = own.clone().pulled_by(role);
            for (folder, pulls) in ["org1/user1", "org1/peer0", "org1/admin"].iter().zip(pull) {
                let kinship = own.kinship(&identity(folder, "Org1MSP"));
                assert_eq!(kinship == Kinship::Puller, pulls, "{folder} for {role:?}");
                assert_ne!(kinship, Kinship::Stranger);
            }
        }
        let nobody = OwnMsp::of_identity(&verifier, b"\xff");
        assert!(!nobody.is_in_channel());
    }

    /// An MSP without NodeOUs cannot tell its peers apart.
    #[test]
    fn without_units_every_member_pulls() {
        let (ca, other) = (TestCa::root("ca"), TestCa::root("other"));
        let mut config = config_of("raft/block_0.pb");
        let msp = FabricMspConfig {
            fabric_node_ous: None,
            admins: vec![ca.issue("admin", &[]).pem.into()],
            ..msp_config("Org1MSP", &[&ca])
        };
        let value = MspConfig {
            r#type: 0,
            config: msp.encode_to_vec().into(),
        };
        set_value(
            group(&mut config, &["Application", "Org1"]),
            "MSP",
            Some(value),
        );
        let entries = [config_entry(&config, "ch-raft")];
        let genesis = Block::assemble(BlockNumber::GENESIS, &[], &entries, &[&[]]);
        let verifier = ChannelVerifier::from_genesis(&genesis).unwrap();
        let own = OwnMsp::new(&verifier, "Org1MSP");
        let kinship = |ca: &TestCa| {
            let signer = ca.issue("somebody", &[]).signer("Org1MSP");
            own.kinship(&signer.identity)
        };
        assert_eq!(kinship(&ca), Kinship::Puller);
        assert_eq!(kinship(&other), Kinship::Stranger);
        let peers = own.clone().pulled_by(Role::Peer);
        let signer = ca.issue("somebody", &[]).signer("Org1MSP");
        assert_eq!(peers.kinship(&signer.identity), Kinship::Member);
    }

    #[test]
    fn it_follows_the_configuration() {
        let blocks = chain("raft", 8);
        let verifier = ChannelVerifier::from_genesis(&blocks[0]).unwrap();
        let own = OwnMsp::new(&verifier, "Org1MSP");
        let before = own.generation();
        let stored = VerifiedBlock::new(blocks[7].clone(), &verifier, Standing::Linked).unwrap();
        verifier.apply_config(&stored).unwrap();
        assert_eq!(own.generation(), before + 1);
    }
}
