// SPDX-License-Identifier: Apache-2.0
//! The proof of membership over one stream, from either side.

use std::{sync::Arc, time::Duration};

use block_api::{DeliverStatus, SignError, Signer};
use futures::{AsyncRead, AsyncWrite, AsyncWriteExt};
use libp2p::PeerId;
use rand::{TryRng, rngs::SysRng};
use tokio::time::timeout;

use super::{
    GREETING,
    wire::{
        Hello, MAX_FRAME, NONCE, Nonce, Proof, Role, Unreadable, encode_proof, parse_proof, signed,
    },
};
use crate::{
    access::{Access, Refused},
    frames::{self, FrameError, Patience, flush, read_frame, write_frame},
    wire::{parse_end, put_end},
};

/// What a node proves itself with, and by what it judges others.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) network: String,
    pub(crate) peer: PeerId,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) access: Access,
    /// How long the signer, or the other side with any frame, may take.
    pub(crate) patience: Duration,
}

/// Two nodes did not prove to each other who they are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the proof of membership broke off: {0}")]
    Frame(#[from] FrameError),
    #[error("the other side hung up in the proof of membership")]
    HungUp,
    #[error("the other side sent a frame of kind {0} in the proof of membership")]
    Kind(u8),
    #[error("the other side cannot be understood: {0}")]
    Unreadable(#[from] Unreadable),
    #[error(
        "the other side is of network {theirs:?}, and this node of {ours:?}; set one name for both"
    )]
    Network { theirs: String, ours: String },
    #[error(
        "the other side refuses this node with {status}: its identity may read no channel there"
    )]
    Unwanted { status: DeliverStatus },
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("this node cannot prove its identity: {0}")]
    Signer(#[from] SignError),
    #[error("this node cannot prove its identity: its signer did not answer for {} ms", after.as_millis())]
    SlowSigner { after: Duration },
    #[error("the other side did not greet within {} ms", after.as_millis())]
    Silent { after: Duration },
    #[error(
        "this node cannot prove its identity: identity and signature have more than {MAX_FRAME} bytes"
    )]
    LongProof,
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

impl HandshakeError {
    /// Whether an operator should hear of it: it does not pass by itself.
    pub(crate) fn is_lasting(&self) -> bool {
        match self {
            Self::Unreadable(Unreadable::Version(_))
            | Self::Network { .. }
            | Self::Unwanted { .. }
            | Self::Signer(_)
            | Self::SlowSigner { .. }
            | Self::LongProof
            | Self::Random(_) => true,
            Self::Frame(_)
            | Self::Silent { .. }
            | Self::HungUp
            | Self::Kind(_)
            | Self::Unreadable(_)
            | Self::Refused(_) => false,
        }
    }
}

impl Member {
    /// Proves this node to the one that it dialled, and has that one do the same. The dialer proves
    /// first, so that who listens tells nothing of itself to strangers.
    pub(crate) async fn dial<S>(&self, stream: &mut S, other: PeerId) -> Result<(), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let nonce = self.greet(stream).await?;
        let theirs = self.greeting(stream).await?;
        self.prove(stream, Role::Dialer, &nonce, (&other, &theirs))
            .await?;
        let proof = self
            .proof(stream, Role::Listener, &nonce, (&other, &theirs))
            .await?;
        self.access.admit_called(other, proof).await?;
        // The other side sees that nothing more is said here.
        Ok(self.close(stream).await?)
    }

    /// The same for a node that was dialled. It greets who greets it, proves itself to whom it
    /// admits, and tells whom it does not.
    pub(crate) async fn listen<S>(
        &self,
        stream: &mut S,
        other: PeerId,
    ) -> Result<(), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let after = GREETING;
        let theirs = timeout(after, self.greeting(stream))
            .await
            .map_err(|_| HandshakeError::Silent { after })??;
        let nonce = self.greet(stream).await?;
        let proof = self
            .proof(stream, Role::Dialer, &nonce, (&other, &theirs))
            .await?;
        if let Err(refused) = self.access.admit(other, proof).await {
            // Whether it stays to hear that changes nothing.
            drop(self.turn_away(stream).await);
            return Err(refused.into());
        }
        self.prove(stream, Role::Listener, &nonce, (&other, &theirs))
            .await?;
        Ok(self.close(stream).await?)
    }

    async fn turn_away<S>(&self, stream: &mut S) -> Result<(), FrameError>
    where
        S: AsyncWrite + Unpin,
    {
        let no = put_end(DeliverStatus::Forbidden);
        write_frame(stream, frames::END, &[&no], self.patience).await?;
        self.close(stream).await
    }

    async fn greet<S>(&self, stream: &mut S) -> Result<Nonce, HandshakeError>
    where
        S: AsyncWrite + Unpin,
    {
        let mut nonce = [0; NONCE];
        SysRng
            .try_fill_bytes(&mut nonce)
            .map_err(|error| HandshakeError::Random(error.to_string()))?;
        let hello = Hello {
            network: self.network.clone(),
            nonce,
        };
        write_frame(stream, frames::HELLO, &[&hello.encode()], self.patience).await?;
        flush(stream, self.patience).await?;
        Ok(nonce)
    }

    async fn greeting<S>(&self, stream: &mut S) -> Result<Nonce, HandshakeError>
    where
        S: AsyncRead + Unpin,
    {
        let hello = Hello::parse(&self.frame(stream, frames::HELLO).await?)?;
        if hello.network != self.network {
            return Err(HandshakeError::Network {
                theirs: hello.network,
                ours: self.network.clone(),
            });
        }
        Ok(hello.nonce)
    }

    async fn prove<S>(
        &self,
        stream: &mut S,
        role: Role,
        nonce: &Nonce,
        other: (&PeerId, &Nonce),
    ) -> Result<(), HandshakeError>
    where
        S: AsyncWrite + Unpin,
    {
        let message = signed(role, &self.network, (&self.peer, nonce), other);
        let after = self.patience;
        let signature = timeout(after, self.signer.sign(&message))
            .await
            .map_err(|_| HandshakeError::SlowSigner { after })??;
        let proof = encode_proof(&self.signer.identity(), &signature);
        let proof = proof.ok_or(HandshakeError::LongProof)?;
        write_frame(stream, frames::PROOF, &[&proof], self.patience).await?;
        Ok(flush(stream, self.patience).await?)
    }

    async fn proof<S>(
        &self,
        stream: &mut S,
        role: Role,
        nonce: &Nonce,
        (other, theirs): (&PeerId, &Nonce),
    ) -> Result<Proof, HandshakeError>
    where
        S: AsyncRead + Unpin,
    {
        let (identity, signature) = parse_proof(self.frame(stream, frames::PROOF).await?)?;
        Ok(Proof {
            identity,
            signed: signed(role, &self.network, (other, theirs), (&self.peer, nonce)),
            signature,
        })
    }

    async fn frame<S>(&self, stream: &mut S, wanted: u8) -> Result<Vec<u8>, HandshakeError>
    where
        S: AsyncRead + Unpin,
    {
        // The other side has its signer to ask, and then to judge.
        let wait = Patience {
            first: Some(self.patience.saturating_mul(2)),
            next: self.patience,
        };
        let frame = read_frame(stream, MAX_FRAME, wait).await?;
        let frame = frame.ok_or(HandshakeError::HungUp)?;
        if frame.kind == frames::END {
            let status = parse_end(&frame.payload).unwrap_or(DeliverStatus::Forbidden);
            return Err(HandshakeError::Unwanted { status });
        }
        if frame.kind != wanted {
            return Err(HandshakeError::Kind(frame.kind));
        }
        Ok(frame.payload)
    }

    async fn close<S>(&self, stream: &mut S) -> Result<(), FrameError>
    where
        S: AsyncWrite + Unpin,
    {
        Ok(timeout(self.patience, stream.close())
            .await
            .map_err(|_| FrameError::NotTaken {
                after: self.patience,
            })??)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::SystemTime};

    use async_trait::async_trait;
    use block_api::{
        FixedClock,
        testing::{MemberKey, MemberReaders},
    };
    use bytes::Bytes;
    use tokio::io::{DuplexStream, duplex};
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

    use super::*;
    use crate::{Keypair, access::Others, topic::TopicId};

    const OURS: MemberKey = MemberKey {
        organisation: "Org1MSP",
        name: "node",
    };
    const TOPIC: TopicId = TopicId::new([1; 32]);

    /// Fails, or never answers.
    #[derive(Debug)]
    struct Broken {
        answers: bool,
    }

    #[async_trait]
    impl Signer for Broken {
        fn identity(&self) -> Bytes {
            OURS.identity()
        }

        async fn sign(&self, _: &[u8]) -> Result<Bytes, SignError> {
            if !self.answers {
                std::future::pending::<()>().await;
            }
            Err(SignError::new("the key is locked"))
        }
    }

    fn peer(n: u8) -> PeerId {
        Keypair::from_seed([n; 32]).peer_id()
    }

    /// The node of this number, which lets in who is of these organisations.
    fn member(n: u8, signer: impl Signer + 'static, lets: &[&str]) -> Member {
        let clock = Arc::new(FixedClock(SystemTime::UNIX_EPOCH));
        let access = Access::new(BTreeSet::new(), Others::Members, clock);
        access.join(TOPIC, Arc::new(MemberReaders::of(lets)));
        Member {
            network: "net".to_owned(),
            peer: peer(n),
            signer: Arc::new(signer),
            access,
            patience: Duration::from_secs(5),
        }
    }

    fn pipe() -> (Compat<DuplexStream>, Compat<DuplexStream>) {
        let (one, other) = duplex(1 << 16);
        (one.compat(), other.compat())
    }

    type Outcome = Result<(), HandshakeError>;

    /// What each side says of the other.
    async fn meet(dialer: &Member, listener: &Member) -> (Outcome, Outcome) {
        let (mut one, mut other) = pipe();
        let dialling = async {
            let done = dialer.dial(&mut one, listener.peer).await;
            drop(one);
            done
        };
        let listening = async {
            let done = listener.listen(&mut other, dialer.peer).await;
            drop(other);
            done
        };
        tokio::join!(dialling, listening)
    }

    /// Plays a dialer that proves what it likes, and gives what the listener says of it.
    async fn forged(
        listener: &Member,
        prove: impl FnOnce(&Nonce, &Nonce) -> (Bytes, Vec<u8>),
    ) -> Outcome {
        let (mut one, mut other) = pipe();
        let dialer = member(1, OURS, &[]);
        let dialling = async {
            let nonce = dialer.greet(&mut one).await?;
            let theirs = dialer.greeting(&mut one).await?;
            let (identity, signature) = prove(&nonce, &theirs);
            let proof = encode_proof(&identity, &signature).unwrap();
            write_frame(&mut one, frames::PROOF, &[&proof], dialer.patience).await?;
            let told = dialer.frame(&mut one, frames::PROOF).await;
            Ok::<_, HandshakeError>(told.map(drop))
        };
        let (told, judged) = tokio::join!(dialling, listener.listen(&mut other, dialer.peer));
        match (told.unwrap(), &judged) {
            (Ok(()), Ok(())) => {}
            (Err(HandshakeError::Unwanted { status }), Err(_)) => {
                assert_eq!(status, DeliverStatus::Forbidden);
            }
            (told, judged) => panic!("{told:?} and {judged:?}"),
        }
        judged
    }

    #[tokio::test]
    async fn two_members_prove_to_each_other_who_they_are() {
        let lets = ["Org1MSP"];
        let (dialer, listener) = (member(1, OURS, &lets), member(2, OURS, &lets));
        let (one, other) = meet(&dialer, &listener).await;
        assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
        for (member, met) in [(&dialer, &listener.peer), (&listener, &dialer.peer)] {
            let known = member.access.claim(met).unwrap();
            assert_eq!(known.organisation(), Some("Org1MSP"));
            member.access.connected(*met, known);
            assert!(member.access.may_have(met, TOPIC));
            assert!(member.access.claim(met).is_none(), "it is claimed once");
        }
    }

    #[tokio::test]
    async fn each_side_refuses_whom_it_does_not_want() {
        let lets = ["Org1MSP"];
        let (dialer, listener) = (member(1, OURS, &lets), member(2, OURS, &["Org2MSP"]));
        let (one, other) = meet(&dialer, &listener).await;
        assert!(
            matches!(one, Err(HandshakeError::Unwanted { .. })),
            "{one:?}"
        );
        assert!(
            matches!(other, Err(HandshakeError::Refused(_))),
            "{other:?}"
        );
        assert!(listener.access.claim(&dialer.peer).is_none());

        let (dialer, listener) = (member(1, OURS, &["Org2MSP"]), member(2, OURS, &lets));
        let (one, _) = meet(&dialer, &listener).await;
        assert!(matches!(one, Err(HandshakeError::Refused(_))), "{one:?}");

        // By the ids of nodes, and nobody beside them.
        let listed = |peers: BTreeSet<PeerId>| Member {
            access: Access::new(
                peers,
                Others::None,
                Arc::new(FixedClock(SystemTime::UNIX_EPOCH)),
            ),
            ..member(2, OURS, &[])
        };
        let dialer = member(1, OURS, &lets);
        let (one, other) = meet(&dialer, &listed([peer(1)].into())).await;
        assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
        let (one, other) = meet(&dialer, &listed([peer(3)].into())).await;
        assert!(one.is_err(), "{one:?}");
        let other = other.unwrap_err();
        assert!(other.to_string().contains(&peer(1).to_string()), "{other}");
    }

    /// Covers: GCH-22
    #[tokio::test]
    async fn a_proof_is_worth_something_on_its_connection_alone() {
        let listener = member(2, OURS, &["Org1MSP"]);
        let net = "net";
        let (own, other, third) = (peer(1), peer(2), peer(3));
        let sign = |message: Vec<u8>| (OURS.identity(), OURS.signature(&message));
        let good = forged(&listener, |nonce, theirs| {
            sign(signed(Role::Dialer, net, (&own, nonce), (&other, theirs)))
        });
        assert!(good.await.is_ok());
        type Forge = Box<dyn Fn(&Nonce, &Nonce) -> Vec<u8>>;
        let rows: [(&str, Forge); 6] = [
            (
                "another connection",
                Box::new(move |nonce, _| {
                    signed(Role::Dialer, net, (&own, nonce), (&other, &[9; NONCE]))
                }),
            ),
            (
                "the other role",
                Box::new(move |nonce, theirs| {
                    signed(Role::Listener, net, (&own, nonce), (&other, theirs))
                }),
            ),
            (
                "another node",
                Box::new(move |nonce, theirs| {
                    signed(Role::Dialer, net, (&third, nonce), (&other, theirs))
                }),
            ),
            (
                "to another node",
                Box::new(move |nonce, theirs| {
                    signed(Role::Dialer, net, (&own, nonce), (&third, theirs))
                }),
            ),
            (
                "what the listener signs itself",
                Box::new(move |nonce, theirs| {
                    signed(Role::Listener, net, (&other, theirs), (&own, nonce))
                }),
            ),
            (
                "another network",
                Box::new(move |nonce, theirs| {
                    signed(Role::Dialer, "other", (&own, nonce), (&other, theirs))
                }),
            ),
        ];
        for (what, message) in rows {
            let judged = forged(&listener, |nonce, theirs| sign(message(nonce, theirs))).await;
            assert!(
                matches!(judged, Err(HandshakeError::Refused(_))),
                "{what}: {judged:?}"
            );
        }
        let thief = MemberKey {
            organisation: "Org2MSP",
            name: "thief",
        };
        let stolen = forged(&listener, |nonce, theirs| {
            let message = signed(Role::Dialer, net, (&own, nonce), (&other, theirs));
            (OURS.identity(), thief.signature(&message))
        });
        assert!(stolen.await.is_err());
        let bent = forged(&listener, |nonce, theirs| {
            let message = signed(Role::Dialer, net, (&own, nonce), (&other, theirs));
            let mut signature = OURS.signature(&message);
            signature[40] ^= 1;
            (OURS.identity(), signature)
        });
        assert!(bent.await.is_err());
    }

    #[tokio::test]
    async fn who_does_not_stay_to_hear_that_it_is_refused_is_refused() {
        let listener = member(2, OURS, &["Org2MSP"]);
        let (mut one, mut other) = pipe();
        let dialer = member(1, OURS, &[]);
        let dialling = async {
            dialer.greet(&mut one).await.unwrap();
            dialer.greeting(&mut one).await.unwrap();
            let proof = encode_proof(&OURS.identity(), b"nothing").unwrap();
            write_frame(&mut one, frames::PROOF, &[&proof], dialer.patience)
                .await
                .unwrap();
            drop(one);
        };
        let (_, judged) = tokio::join!(dialling, listener.listen(&mut other, dialer.peer));
        assert!(
            matches!(judged, Err(HandshakeError::Refused(_))),
            "{judged:?}"
        );
    }

    #[tokio::test]
    async fn networks_and_versions_are_told_apart() {
        let dialer = member(1, OURS, &["Org1MSP"]);
        let listener = Member {
            network: "other".to_owned(),
            ..member(2, OURS, &["Org1MSP"])
        };
        let (_, judged) = meet(&dialer, &listener).await;
        let error = judged.unwrap_err();
        assert!(error.is_lasting());
        let text = error.to_string();
        assert!(
            text.contains("\"net\"") && text.contains("\"other\""),
            "{text}"
        );

        let (mut one, mut other) = pipe();
        let mut hello = Hello {
            network: "other".to_owned(),
            nonce: [1; NONCE],
        }
        .encode();
        hello[0] = 2;
        let second = Duration::from_secs(1);
        write_frame(&mut one, frames::HELLO, &[&hello], second)
            .await
            .unwrap();
        let error = listener.listen(&mut other, dialer.peer).await.unwrap_err();
        assert!(
            error.is_lasting() && error.to_string().contains("version 2"),
            "{error}"
        );
    }

    /// Covers: MCS-03
    #[tokio::test(start_paused = true)]
    async fn a_signer_that_fails_or_is_slow_fails_its_connection() {
        let listener = member(2, OURS, &["Org1MSP"]);
        let (one, _) = meet(&member(1, Broken { answers: true }, &[]), &listener).await;
        let text = one.unwrap_err().to_string();
        assert!(text.contains("the key is locked"), "{text}");
        let (one, other) = meet(&member(1, Broken { answers: false }, &[]), &listener).await;
        assert!(
            matches!(one, Err(HandshakeError::SlowSigner { .. })),
            "{one:?}"
        );
        assert!(matches!(other, Err(HandshakeError::HungUp)), "{other:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_or_the_wrong_thing_is_given_up() {
        let listener = member(2, OURS, &["Org1MSP"]);
        let (one, mut other) = pipe();
        let began = tokio::time::Instant::now();
        let silent = listener.listen(&mut other, peer(1)).await;
        assert!(
            matches!(silent, Err(HandshakeError::Silent { .. })),
            "{silent:?}"
        );
        assert_eq!(began.elapsed(), GREETING);
        drop(one);
        let rows = [(frames::STATUS, 3), (frames::HELLO, MAX_FRAME + 1)];
        for (kind, length) in rows {
            let (mut one, mut other) = pipe();
            let payload = vec![0; length];
            let second = Duration::from_secs(1);
            write_frame(&mut one, kind, &[&payload], second)
                .await
                .unwrap();
            let judged = listener.listen(&mut other, peer(1)).await;
            assert!(
                matches!(
                    judged,
                    Err(HandshakeError::Kind(_) | HandshakeError::Frame(_))
                ),
                "{judged:?}"
            );
        }
    }
}
