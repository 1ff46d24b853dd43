// Only what the package's README asks for.
export default {
  optimizeDeps: { exclude: ["fanlight"] },
};
