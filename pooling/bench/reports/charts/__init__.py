"""Charts as SVG, drawn without any library. They take numbers and texts and know no benchmark."""
