//! Comments of the `.proto` files, by what they stand before.

use std::collections::HashMap;

use prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, MessageDescriptor, MethodDescriptor, ServiceDescriptor,
};

/// Leading comments by file and path in the file's descriptor.
pub(super) struct Comments(HashMap<(String, Vec<i32>), String>);

impl Comments {
    pub(super) fn of(pool: &DescriptorPool) -> Self {
        let mut comments = HashMap::new();
        for file in pool.files() {
            let Some(info) = &file.file_descriptor_proto().source_code_info else { continue };
            for location in info.location.iter().filter(|location| location.leading_comments.is_some()) {
                let text = tidy(location.leading_comments());
                comments.insert((file.name().to_owned(), location.path.clone()), text);
            }
        }
        Self(comments)
    }

    fn find(&self, file: &str, path: &[i32]) -> &str {
        self.0.get(&(file.to_owned(), path.to_vec())).map_or("", String::as_str)
    }

    pub(super) fn of_service(&self, service: &ServiceDescriptor) -> &str {
        self.find(service.parent_file().name(), service.path())
    }

    pub(super) fn of_rpc(&self, rpc: &MethodDescriptor) -> &str {
        self.find(rpc.parent_service().parent_file().name(), rpc.path())
    }

    pub(super) fn of_message(&self, message: &MessageDescriptor) -> &str {
        self.find(message.parent_file().name(), message.path())
    }

    pub(super) fn of_field(&self, field: &FieldDescriptor) -> &str {
        self.find(field.parent_message().parent_file().name(), field.path())
    }

    pub(super) fn of_enum(&self, kind: &EnumDescriptor) -> &str {
        self.find(kind.parent_file().name(), kind.path())
    }
}

/// One line: where a comment breaks its lines says nothing.
fn tidy(comment: &str) -> String {
    comment.split_whitespace().collect::<Vec<_>>().join(" ")
}
