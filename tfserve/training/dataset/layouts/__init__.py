"""The layouts of project folders that people have: each module recognises some, and lists their images."""
