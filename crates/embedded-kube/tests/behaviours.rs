//! What a Kubernetes API does, as tests that take any target.

pub(crate) mod access;
pub(crate) mod changes;
pub(crate) mod forms;
pub(crate) mod identity;
pub(crate) mod lifecycle;
pub(crate) mod objects;
pub(crate) mod pods;

/// Makes a test of each behaviour, against the `target()` of the place where it stands.
macro_rules! all {
    () => {
        $crate::behaviours::all!(@
            access: a_binding_allows_what_its_role_says,
            access: access_reviews_tell_what_is_allowed,
            access: impersonation_needs_its_rights,
            access: requests_without_credentials_are_anonymous,
            changes: a_watch_tells_every_change,
            changes: a_watch_sees_through_its_selector,
            changes: a_watch_can_begin_with_what_is_there,
            forms: answers_come_as_tables,
            forms: answers_come_as_metadata_alone,
            forms: bodies_are_taken_in_other_forms,
            forms: discovery_lists_what_is_served,
            forms: paths_that_are_not_served_are_refused,
            identity: a_token_is_its_account,
            identity: a_token_verifies_with_the_key_set,
            identity: tokens_are_for_their_audience,
            lifecycle: a_namespace_goes_with_what_is_in_it,
            lifecycle: custom_kinds_are_served,
            lifecycle: dependents_go_after_their_owner,
            lifecycle: finalizers_hold_an_object,
            objects: a_collection_is_deleted_by_label,
            objects: a_dry_run_changes_nothing,
            objects: an_outdated_update_is_refused,
            objects: applying_merges_lists_by_key,
            objects: applying_owns_fields,
            objects: objects_are_made_read_and_deleted,
            objects: patches_change_parts,
            objects: some_kinds_are_made_by_update,
            objects: wrong_objects_are_refused,
            pods: a_pod_runs_and_has_a_log,
        );
    };
    (@ $($module:ident: $behaviour:ident,)*) => {
        $(
            #[tokio::test]
            async fn $behaviour() {
                $crate::behaviours::$module::$behaviour(&target().await).await;
            }
        )*
    };
}
pub(crate) use all;
