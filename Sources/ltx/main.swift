print("ltx")
