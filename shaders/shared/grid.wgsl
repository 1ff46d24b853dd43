// The workgroup's linear index. Workgroups are spread over x and y if there are more than one dimension allows (65,535).
fn linear_group(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}
