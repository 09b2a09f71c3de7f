"""Tables, figures and the viewer's page: what people look at."""
