// Workgroups are spread over x and y where one dimension is too small for them (limit 65,535).
fn linear_group(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}
