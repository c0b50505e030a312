//! Tells the sources which version of Python they are built for (`cfg(Py_3_12)` and its kin).

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
