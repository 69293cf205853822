//! Transactions on etcd, sent until answered; and when an earlier send may have got through, the proof of what happened.
//!
//! A transaction may be sent twice because its compares fail the second time if it succeeded the first. Then the values
//! tell: each write's bytes are unique, so finding them means that the first send did it.

use etcd_client::{Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse};

use super::{
    pool::{Answered, Member, Pool, Unanswered},
    revision_of,
};
use crate::{
    Revision, StoreError,
    raw::{Expectation, Outcome, RawCompare, RawOperation, RawTransaction},
};

pub(super) async fn commit(pool: &Pool, transaction: &RawTransaction) -> Result<Outcome, StoreError> {
    let (request, before) = (request(transaction), pool.seen());
    let answer = pool
        .attempts(|member| {
            let request = request.clone();
            async move { Ok(member.kv().txn(request).await?) }
        })
        .await;
    let Answered { value: response, repeated } = match answer {
        Ok(answered) => answered,
        Err(Unanswered::Final(error)) => return Err(error),
        Err(Unanswered::Exhausted(reason)) => return Err(StoreError::OutcomeUnknown { reason }),
    };
    pool.saw(response.header());
    if response.succeeded() {
        return Ok(Outcome::Committed(revision_of(response.header())));
    }
    let failed = Outcome::Failed(first_failed(&transaction.compares, &response));
    if repeated { settle(pool, transaction, before, failed).await } else { Ok(failed) }
}

/// An earlier send may have made the compares fail by succeeding: looks for its writes.
async fn settle(
    pool: &Pool,
    transaction: &RawTransaction,
    before: Revision,
    failed: Outcome,
) -> Result<Outcome, StoreError> {
    for operation in &transaction.operations {
        let read = |member: Member| async move { Ok(member.kv().get(operation.key(), None).await?) };
        let response = pool.call("read back", read).await?;
        let found = response.kvs().first();
        match (operation, found) {
            (RawOperation::Put { value, .. }, Some(found)) if found.value() == value => {
                return Ok(Outcome::Committed(Revision(found.mod_revision())));
            }
            // It was last changed before the first send: nothing of ours has happened.
            (_, Some(found)) if Revision(found.mod_revision()) <= before => return Ok(failed),
            _ => {}
        }
    }
    Err(StoreError::OutcomeUnknown { reason: "somebody else has written the same keys since".to_owned() })
}

fn request(transaction: &RawTransaction) -> Txn {
    let compares: Vec<_> = transaction.compares.iter().map(compare).collect();
    let operations: Vec<_> = transaction.operations.iter().map(operation).collect();
    let look: Vec<_> = transaction.compares.iter().map(look).collect();
    Txn::new().when(compares).and_then(operations).or_else(look)
}

fn compare(compare: &RawCompare) -> Compare {
    let key = compare.key.as_str();
    match compare.expectation {
        Expectation::Absent => Compare::create_revision(key, CompareOp::Equal, 0),
        Expectation::Present => Compare::create_revision(key, CompareOp::NotEqual, 0),
        Expectation::Modified(revision) => Compare::mod_revision(key, CompareOp::Equal, of_a_record(revision)),
        Expectation::Created(revision) => Compare::create_revision(key, CompareOp::Equal, of_a_record(revision)),
        // Over a range etcd asks it of every key, and an empty range has revision 0.
        Expectation::NoneAfter(revision) => {
            Compare::mod_revision(key, CompareOp::Less, revision.next().get()).with_prefix()
        }
    }
}

/// Reads what a compare was about, without values; of a prefix only a key that must not be there.
fn look(compare: &RawCompare) -> TxnOp {
    let options = GetOptions::new().with_keys_only();
    let options = match compare.expectation {
        Expectation::NoneAfter(revision) => {
            options.with_prefix().with_min_mod_revision(revision.next().get()).with_limit(1)
        }
        _ => options,
    };
    TxnOp::get(compare.key.as_str(), Some(options))
}

/// To etcd an absent key has revision 0; to us, nothing has it.
fn of_a_record(revision: Revision) -> i64 {
    if revision == Revision::ZERO { -1 } else { revision.get() }
}

fn operation(operation: &RawOperation) -> TxnOp {
    match operation {
        RawOperation::Put { key, value, lease } => {
            let options = lease.map(|lease| PutOptions::new().with_lease(lease.0));
            TxnOp::put(key.as_str(), value.as_slice(), options)
        }
        RawOperation::Delete { key } => TxnOp::delete(key.as_str(), None),
    }
}

/// The else branch has looked at every compared key in the same instant.
fn first_failed(compares: &[RawCompare], response: &TxnResponse) -> usize {
    let looked = response.op_responses();
    let fails = |(compare, looked): (&RawCompare, &TxnOpResponse)| {
        let TxnOpResponse::Get(found) = looked else { return false };
        let found = found.kvs().first().map(|kv| (Revision(kv.create_revision()), Revision(kv.mod_revision())));
        !compare.expectation.holds(found)
    };
    compares.iter().zip(&looked).position(fails).unwrap_or(0)
}
